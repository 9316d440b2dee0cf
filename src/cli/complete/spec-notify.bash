# bash completion of spec-notify: the program itself says what could stand there.
_spec_notify() {
    local IFS=$'\n' current=$2 program=${1/#\~\//$HOME/}
    local -a before=("${COMP_WORDS[@]:0:COMP_CWORD}") said
    # After `--option=` the word under the cursor is the sign itself.
    [[ ${COMP_WORDS[COMP_CWORD]} == = ]] && current=
    said=($("$program" complete bash -- "${before[@]}" "$current" 2>/dev/null))
    COMPREPLY=()
    case ${said[0]} in
        values) COMPREPLY=("${said[@]:1}") ;;
        files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")) ;;
        folders) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$current")) ;;
    esac
}
# The order is the program's, where bash is not too old (4.4) to keep it.
complete -o nosort -F _spec_notify spec-notify 2>/dev/null || complete -F _spec_notify spec-notify
