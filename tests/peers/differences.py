"""Every test of Keras's own that does not hold on our core, and why.

A name is `module::Class::test`; a `*` in it stands for the parameters of a test that Keras runs several times.
"""

_UNBUILT = "it saves a model that is not built, which we refuse and say how to build it"
_TEXT = "it compares the words of Keras's own message; ours says what was received and how to fix it"
_WEIGHTS = "it saves and loads weights alone, by `save_weights` and `load_weights`, which we do not replace"
_STORES = "it tests a private store of Keras's, and saves no model"
_GUARDS = "it tests a private guard of Keras's by itself"
_LIMITS = "it lowers a private limit of Keras's; our reader refuses by limits of its own, see `tests/safety`"
_ARCHIVE = "it builds its endpoints with `keras.export.ExportArchive`, which we do not replace"
_JAX = "it runs on the JAX backend only"
_ONE_ERROR = (
    "it wants a TypeError for what cannot be rebuilt; ours is an ArtifactError, a ValueError, with the same reason"
)

LEGACY_H5 = "keras.src.legacy.saving.legacy_h5_format_test"
SAVING_LIB = "keras.src.saving.saving_lib_test"
SAVING_API = "keras.src.saving.saving_api_test"
EXPORT = "keras.src.export.saved_model_test"

MODULES = (LEGACY_H5, SAVING_LIB, SAVING_API, EXPORT)

DIFFERENCES: dict[str, str] = {
    f"{LEGACY_H5}::LegacyH5WeightsTest::test_functional_model_weights": _WEIGHTS,
    f"{LEGACY_H5}::LegacyH5WeightsTest::test_sequential_model_weights": _WEIGHTS,
    f"{LEGACY_H5}::LegacyH5WeightsTest::test_subclassed_model_weights": _WEIGHTS,
    f"{LEGACY_H5}::LegacyH5WholeModelTest::test_nested_layers": _UNBUILT,
    f"{SAVING_LIB}::SavingTest::test_compile_overridden_warnings_sequential": _UNBUILT,
    f"{SAVING_LIB}::SavingTest::test_compile_overridden_warnings_subclassed": _UNBUILT,
    f"{SAVING_LIB}::SavingTest::test_load_weights_only_with_unbuilt_model": _WEIGHTS,
    f"{SAVING_LIB}::SavingTest::test_metadata": _UNBUILT,
    f"{SAVING_LIB}::SavingTest::test_save_load_weights_only": _WEIGHTS,
    f"{SAVING_LIB}::SavingTest::test_save_model_exception_raised_high_memory_config": (
        "it wants half an archive to be left behind by a failed save; ours leaves what was there before"
    ),
    f"{SAVING_LIB}::SavingTest::test_save_model_exception_raised_low_memory_config": (
        "it wants half an archive to be left behind by a failed save; ours leaves what was there before"
    ),
    f"{SAVING_LIB}::SavingTest::test_save_to_fileobj": (
        "it saves to a file object in memory; we take a path or an open h5py.File"
    ),
    f"{SAVING_LIB}::SavingTest::test_save_weights_only_with_unbuilt_model": _WEIGHTS,
    f"{SAVING_LIB}::SavingTest::test_save_weights_subclassed_functional": _WEIGHTS,
    f"{SAVING_LIB}::SavingTest::test_saving_preserve_unbuilt_state": _UNBUILT,
    f"{SAVING_LIB}::SavingTest::test_weights_sharding_efficientnet_b0_10": _WEIGHTS,
    f"{SAVING_LIB}::SavingTest::test_weights_sharding_efficientnet_b0_512": _WEIGHTS,
    f"{SAVING_LIB}::SavingAPITest::test_model_api_errors": (
        "it wants `save_format`, and a path without a suffix that Keras knows, to be refused; both are ours to take"
    ),
    f"{SAVING_LIB}::SavingAPITest::test_saving_api_errors": (
        "it wants `save_format`, and a path without a suffix that Keras knows, to be refused; both are ours to take"
    ),
    f"{SAVING_LIB}::SavingBattleTest::test_complex_model_without_explicit_deserialization": _ONE_ERROR,
    f"{SAVING_LIB}::SavingBattleTest::test_custom_object_without_from_config": _ONE_ERROR,
    f"{SAVING_LIB}::SavingBattleTest::test_legacy_load_skips_missing_nested_containers": (
        "it reads a file of Keras's repository that the wheel does not ship"
    ),
    f"{SAVING_LIB}::SavingBattleTest::test_redefinition_of_trackable": _WEIGHTS,
    f"{SAVING_LIB}::SavingBattleTest::test_remove_weights_only_saving_and_loading": _WEIGHTS,
    f"{SAVING_LIB}::SavingH5IOStoreTest::test_h5_io_store_basics": _STORES,
    f"{SAVING_LIB}::SavingH5IOStoreTest::test_h5_io_store_exception_raised": _STORES,
    f"{SAVING_LIB}::SavingH5IOStoreTest::test_h5_io_store_lora": _STORES,
    f"{SAVING_LIB}::SavingH5IOStoreTest::test_sharded_h5_io_store_basics": _STORES,
    f"{SAVING_LIB}::SavingH5IOStoreTest::test_sharded_h5_io_store_cross_shard_read": _STORES,
    f"{SAVING_LIB}::SavingH5IOStoreTest::test_sharded_h5_io_store_exception_raised": _STORES,
    f"{SAVING_LIB}::SafeZipReadTest::test_allows_incompressible_member": _GUARDS,
    f"{SAVING_LIB}::SafeZipReadTest::test_load_model_rejects_bomb_config": _LIMITS,
    f"{SAVING_LIB}::SafeZipReadTest::test_load_model_rejects_bomb_weights": _LIMITS,
    f"{SAVING_LIB}::SafeZipReadTest::test_load_model_rejects_extraction_bomb": _LIMITS,
    f"{SAVING_LIB}::SafeZipReadTest::test_rejects_decompression_bomb": _GUARDS,
    f"{SAVING_LIB}::SafeGetH5DatasetTest::test_load_weights_rejects_shape_bomb": _WEIGHTS,
    f"{SAVING_LIB}::SafeGetH5DatasetTest::test_rejects_shape_bomb": _GUARDS,
    f"{SAVING_LIB}::SavingDiskIOStoreTest::test_disk_io_store_rejects_backslash_traversal": _STORES,
    f"{SAVING_LIB}::SavingDiskIOStoreTest::test_disk_io_store_rejects_path_traversal": _STORES,
    f"{SAVING_LIB}::SavingDiskIOStoreTest::test_disk_io_store_remote_working_dir_is_preserved": _STORES,
    f"{SAVING_LIB}::SavingNpzIOStoreTest::test_npz_io_store_loads_normal_array": _STORES,
    f"{SAVING_LIB}::SavingNpzIOStoreTest::test_npz_io_store_rejects_shape_bomb": _STORES,
    f"{SAVING_API}::SaveModelTests::test_invalid_save_format": _TEXT,
    f"{SAVING_API}::SaveModelTests::test_objects_to_skip": _WEIGHTS,
    f"{SAVING_API}::SaveModelTests::test_objects_to_skip_with_functional_subclass_attribute_layer": _WEIGHTS,
    f"{SAVING_API}::SaveModelTests::test_save_h5_format": (
        "it wants a warning that HDF5 is a legacy format; with us it is one of three"
    ),
    f"{SAVING_API}::SaveModelTests::test_save_unsupported_extension": (
        "it wants a suffix that Keras does not know to be refused; with us it is a name for a SavedModel"
    ),
    f"{SAVING_API}::SaveModelTests::test_unsupported_arguments": (
        "it wants a ValueError for an argument that is not there; with us that is Python's own TypeError"
    ),
    f"{SAVING_API}::LoadModelTests::test_load_keras_not_zip": _TEXT,
    f"{SAVING_API}::LoadModelTests::test_load_unsupported_format": _TEXT,
    f"{SAVING_API}::LoadModelTests::test_save_unzipped": _TEXT,
    f"{SAVING_API}::LoadWeightsTests::test_load_sharded_weights": _WEIGHTS,
    f"{SAVING_API}::LoadWeightsTests::test_load_weights_h5_bfloat16_*": "it skips itself: stock HDF5 has no bfloat16",
    f"{SAVING_API}::LoadWeightsTests::test_load_weights_h5_*_bfloat16": "it skips itself: stock HDF5 has no bfloat16",
    f"{SAVING_API}::LoadWeightsTests::test_load_weights_invalid_extension": _WEIGHTS,
    f"{SAVING_API}::LoadWeightsTests::test_load_weights_rejects_h5_soft_link": _WEIGHTS,
    f"{SAVING_API}::LoadWeightsTests::test_load_weights_weights.h5_*": _WEIGHTS,
    f"{EXPORT}::ExportSavedModelTest::test_input_signature_error": (
        "it gives a number for a signature, which the adapter cannot hand on"
    ),
    f"{EXPORT}::ExportSavedModelTest::test_jax_specific_kwargs_*": _JAX,
    f"{EXPORT}::ExportArchiveTest::test_endpoint_registration_tf_function": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_export_archive_errors": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_export_no_assets": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_export_saved_model_errors": _TEXT,
    f"{EXPORT}::ExportArchiveTest::test_jax_endpoint_registration_tf_function": _JAX,
    f"{EXPORT}::ExportArchiveTest::test_jax_multi_unknown_endpoint_registration": _JAX,
    f"{EXPORT}::ExportArchiveTest::test_layer_export": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_low_level_model_export_functional": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_low_level_model_export_sequential": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_low_level_model_export_subclass": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_low_level_model_export_with_alias": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_low_level_model_export_with_dynamic_dims_*": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_low_level_model_export_with_jax2tf_kwargs": _JAX,
    f"{EXPORT}::ExportArchiveTest::test_low_level_model_export_with_jax2tf_polymorphic_shapes": _JAX,
    f"{EXPORT}::ExportArchiveTest::test_model_combined_with_tf_preprocessing": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_non_standard_layer_signature": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_non_standard_layer_signature_with_kwargs": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_track_multiple_layers": _ARCHIVE,
    f"{EXPORT}::ExportArchiveTest::test_variable_collection": _ARCHIVE,
}

_READS_THE_FILE = "it opens, lists or deletes the file itself, which is a directory of another name here"
_LOADS_WEIGHTS = "it reads the file by `load_weights`, which takes no SavedModel"
_LAMBDA = "it wants a lambda to be refused; here the layer comes back from its saved functions, and no code is run"

# What differs beyond that where a SavedModel stands in for the file that the test saves.
DIFFERENCES_AS_SAVED_MODEL: dict[str, str] = {
    f"{LEGACY_H5}::LegacyH5WholeModelTest::test_saving_lambda": _LAMBDA,
    f"{SAVING_LIB}::SavingTest::test_load_model_exception_raised_*": _READS_THE_FILE,
    f"{SAVING_LIB}::SavingTest::test_load_model_read_only_system": _READS_THE_FILE,
    f"{SAVING_LIB}::SavingTest::test_load_weights_only_with_keras_file": _LOADS_WEIGHTS,
    f"{SAVING_LIB}::SavingTest::test_partial_load": _LOADS_WEIGHTS,
    f"{SAVING_LIB}::SavingTest::test_saved_module_paths_and_class_names": _READS_THE_FILE,
    f"{SAVING_LIB}::SavingAPITest::test_safe_mode": _LAMBDA,
    f"{SAVING_API}::LoadModelTests::test_load_h5_format": _READS_THE_FILE,
    f"{SAVING_API}::LoadModelTests::test_load_model_with_custom_objects": _READS_THE_FILE,
    f"{SAVING_API}::LoadWeightsTests::test_load_weights_keras_*": _LOADS_WEIGHTS,
    f"{SAVING_API}::LoadWeightsTests::test_load_weights_h5_*": _LOADS_WEIGHTS,
}
