"""What a shell has to run so that it completes the command: it asks `exporter completion --words` for every word.

The words go to the standard input, each ended by NUL, and the last one is the one to be completed. The answer is a line
for each candidate: the whole word, a tab, and what it means.
"""

# Bash splits words at `=` and `:`, and replaces what stands behind the last of them.
_BASH = r"""_exporter() {
    local words candidate before
    read -a words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ "${COMP_LINE:0:COMP_POINT}" == *[[:space:]] ]] && words+=("")
    local word="${words[-1]}"
    before="${word%"${word##*[=:]}"}"
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        candidate="${candidate#"$before"}"
        COMPREPLY+=("${candidate// /\\ }")
    done < <(printf '%s\0' "${words[@]:1}" | "$1" completion --words 2> /dev/null)
    [[ "${COMPREPLY[*]}" == *[=/.] ]] && compopt -o nospace
}
complete -F _exporter exporter
"""

_ZSH = r"""#compdef exporter
_exporter() {
    local line
    local -a open closed open_texts closed_texts
    local -a typed=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    for line in "${(@f)$(printf '%s\0' "${typed[@]}" | "$words[1]" completion --words 2> /dev/null)}"; do
        [[ -n "$line" ]] || continue
        local word="${line%%$'\t'*}"
        local text="${word}${${line#*$'\t'}:+  ${line#*$'\t'}}"
        if [[ "$word" == *[=/.] ]]; then
            open+=("$word") open_texts+=("$text")
        else
            closed+=("$word") closed_texts+=("$text")
        fi
    done
    compadd -S '' -l -d open_texts -a open
    compadd -l -d closed_texts -a closed
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -D }
compdef _exporter exporter
"""

_FISH = r"""function __exporter_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    printf '%s\0' $words[2..] (string unescape -- $word; or echo $word) | $words[1] completion --words 2> /dev/null
end
complete -c exporter -f -a '(__exporter_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
