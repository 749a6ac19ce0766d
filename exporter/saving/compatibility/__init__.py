"""Which Keras can open what is written: what each release of Keras 3 brought, and what a configuration needs of it."""
