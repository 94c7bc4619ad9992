complete -c nic-agent -l config -d 'The configuration file' -r -F
complete -c nic-agent -l check -d 'Check the configuration file and exit'
complete -c nic-agent -s h -l help -d 'Print help'
complete -c nic-agent -s V -l version -d 'Print version'
