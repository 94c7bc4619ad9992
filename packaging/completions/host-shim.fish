# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_host_shim_global_optspecs
    string join \n version
end

function __fish_host_shim_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_host_shim_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_host_shim_using_subcommand
    set -l cmd (__fish_host_shim_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c host-shim -n "__fish_host_shim_needs_command" -l version -d 'Says which it is'
complete -c host-shim -n "__fish_host_shim_needs_command" -f -a "restore" -d 'Gives pods their VFs back'
complete -c host-shim -n "__fish_host_shim_using_subcommand restore" -l state-dir -d 'Where the records of pods are' -r -f -a "(__fish_complete_directories)"
