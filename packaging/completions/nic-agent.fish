# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nic_agent_global_optspecs
    string join \n config= check record= h/help V/version
end

function __fish_nic_agent_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nic_agent_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nic_agent_using_subcommand
    set -l cmd (__fish_nic_agent_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nic-agent -n "__fish_nic_agent_needs_command" -l config -d 'The configuration file' -r -F
complete -c nic-agent -n "__fish_nic_agent_needs_command" -l record -d 'Write what the reconcile loop hears and does to FILE, which must not be there yet: for nic-agent replay' -r -F
complete -c nic-agent -n "__fish_nic_agent_needs_command" -l check -d 'Check the configuration file and exit'
complete -c nic-agent -n "__fish_nic_agent_needs_command" -s h -l help -d 'Print help'
complete -c nic-agent -n "__fish_nic_agent_needs_command" -s V -l version -d 'Print version'
complete -c nic-agent -n "__fish_nic_agent_needs_command" -f -a "close" -d 'Close all representors of the server\'s functions, and exit: before anything else of a boot'
complete -c nic-agent -n "__fish_nic_agent_needs_command" -f -a "preflight" -d 'Is the NIC as the agent needs it? Changes nothing'
complete -c nic-agent -n "__fish_nic_agent_needs_command" -f -a "replay" -d 'Take the decisions of a recording again, and compare them: without a NIC'
complete -c nic-agent -n "__fish_nic_agent_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand close" -l ifindex -d 'Close the network device of this number, if it is such a representor, and say nothing: for udev' -r
complete -c nic-agent -n "__fish_nic_agent_using_subcommand close" -l config -d 'The configuration file' -r -F
complete -c nic-agent -n "__fish_nic_agent_using_subcommand close" -l force -d 'Close all although nic-agent runs: its pods are cut off until it has opened theirs again'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand close" -s h -l help -d 'Print help'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand preflight" -s o -l output -d 'What to print' -r -f -a "table\t''
json\t''"
complete -c nic-agent -n "__fish_nic_agent_using_subcommand preflight" -l write -d 'Write the report to this file as well, for the agent' -r -F
complete -c nic-agent -n "__fish_nic_agent_using_subcommand preflight" -l config -d 'The configuration file' -r -F
complete -c nic-agent -n "__fish_nic_agent_using_subcommand preflight" -l json -d 'The same as `-o json`'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand preflight" -s h -l help -d 'Print help'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand replay" -l config -d 'The configuration file' -r -F
complete -c nic-agent -n "__fish_nic_agent_using_subcommand replay" -s h -l help -d 'Print help'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand help; and not __fish_seen_subcommand_from close preflight replay help" -f -a "close" -d 'Close all representors of the server\'s functions, and exit: before anything else of a boot'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand help; and not __fish_seen_subcommand_from close preflight replay help" -f -a "preflight" -d 'Is the NIC as the agent needs it? Changes nothing'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand help; and not __fish_seen_subcommand_from close preflight replay help" -f -a "replay" -d 'Take the decisions of a recording again, and compare them: without a NIC'
complete -c nic-agent -n "__fish_nic_agent_using_subcommand help; and not __fish_seen_subcommand_from close preflight replay help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
