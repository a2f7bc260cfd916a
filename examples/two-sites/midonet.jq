# The objects of this example as a MidoNet cluster could have them: each id a
# UUID (the example's own, in digits), SHA-1, which is all that its objects know,
# and no bridge: there the agent's datapath takes the interface in.
def id: {"host-1": 1, vpn: 2, left: 3, right: 4, "port-left": 5, "port-right": 6, office: 7, lab: 8}[.]
	| if . then "00000000-0000-4000-8000-00000000000\(.)" else null end;
.objects |= map(
	.key |= (split("/") | map(id // .) | join("/"))
	| .value |= (walk(if type == "string" then (id // (if . == "sha256" then "sha1" else . end)) else . end)
		# Two connections of one id would be one.
		| if .connections then .id as $c | .connections |= map(.id |= (.[:34] + $c[35:] + .[35:])) else . end
		| del(.bridge)))
