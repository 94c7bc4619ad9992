complete -c cluster-controller -l northbound -d 'The northbound: tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH; several servers of one cluster with commas between' -r
complete -c cluster-controller -l private-key -d 'PEM: our key, for ssl: remotes' -r -F
complete -c cluster-controller -l certificate -d 'PEM: our certificate' -r -F
complete -c cluster-controller -l ca-cert -d 'PEM: the CA of the northbound\'s certificate' -r -F
complete -c cluster-controller -l cluster-cidr -d 'All pods\' addresses, as the controller manager\'s --cluster-cidr: a route of the management ports, and what nodes\' ranges must be inside of' -r
complete -c cluster-controller -l service-cidr -d 'All Services\' addresses, as the API server\'s --service-cluster-ip-range: a route of the management ports' -r
complete -c cluster-controller -l reserved-cidr -d 'Addresses of the cluster\'s that are no node\'s, beside the Services\'' -r
complete -c cluster-controller -l node-cidr-mask-size-ipv4 -d 'The length of a node\'s IPv4 range, as the controller manager\'s option of that name' -r
complete -c cluster-controller -l node-cidr-mask-size-ipv6 -d 'The length of a node\'s IPv6 range, as the controller manager\'s option of that name' -r
complete -c cluster-controller -l router-address -d 'Which address of a node\'s IPv4 subnet is the router\'s: first or last' -r
complete -c cluster-controller -l mtu -d 'What servers are told for their management ports, 1280 to 9978. Geneve over IPv4 takes 58 bytes of the fabric\'s' -r
complete -c cluster-controller -l copp-rate -d 'How many packets a second of each protocol OVN\'s control plane takes from the pods of one NIC, 10 to 1000000; 0 leaves it unbounded' -r
complete -c cluster-controller -l max-service-ports -d 'Ports of a Service, counted for each of its addresses. One with more has no load balancer' -r
complete -c cluster-controller -l max-service-endpoints -d 'Endpoints of a Service that are ready, or serve while they terminate, counted for each of these ports' -r
complete -c cluster-controller -l max-namespace-service-ports -d 'Ports of all Services of a namespace. Where there are more, the largest have no load balancer' -r
complete -c cluster-controller -l max-namespace-service-endpoints -d 'Endpoints of all Services of a namespace' -r
complete -c cluster-controller -l vf-resource -d 'Beginning of the name of the resource by which a pod asks for a VF. May be given several times' -r
complete -c cluster-controller -l nic-heartbeat-timeout -d 'A NIC whose heartbeat has not changed for so long counts as not ready, and its node is tainted; 120 to 3600' -r
complete -c cluster-controller -l listen -d 'Where /healthz, /readyz and /metrics are served' -r
complete -c cluster-controller -l lease-namespace -d 'The Lease\'s namespace' -r
complete -c cluster-controller -l lease-name -d 'The Lease\'s name' -r
complete -c cluster-controller -l identity -d 'Who we are, for people: a part of the Lease\'s holder' -r
complete -c cluster-controller -l log-level -d 'How much is logged: error, warn, info, debug, trace, or more of it (cluster_controller=debug,info)' -r
complete -c cluster-controller -l log-format -d 'The log\'s form, on standard error' -r -f -a "text\t''
json\t''"
complete -c cluster-controller -s h -l help -d 'Print help'
complete -c cluster-controller -s V -l version -d 'Print version'
