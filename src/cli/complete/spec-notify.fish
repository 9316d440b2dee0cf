# fish completion of spec-notify: the program itself says what could stand there.
function __spec_notify_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l said ($words[1] complete fish -- $words "$current" 2>/dev/null)
    set -l kind $said[1]
    set -e said[1]
    set -l option (string match --regex '^--[^=]*=' -- $current)
    set -l path (string replace --regex '^--[^=]*=' '' -- $current)
    switch "$kind"
        case values
            printf '%s\n' $said
        case files
            printf "$option%s\n" (__fish_complete_path "$path")
        case folders
            printf "$option%s\n" (__fish_complete_directories "$path" '')
    end
end
complete --command spec-notify --no-files --keep-order --arguments '(__spec_notify_complete)'
