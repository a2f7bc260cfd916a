package model

import "strings"

// enum lists the values of an enum of the protos in the order of their declaration.
type enum []enumValue

type enumValue struct {
	name   string
	number int
	native string // the value in native objects; "" if they do not have it
}

// The enums that are read.
var (
	ipVersion  = enum{{"V4", 1, ""}, {"V6", 2, ""}}
	policies   = enum{{"WEIGHTED_SCHEDULER", 0, "weighted"}, {"LEAST_SCHEDULER", 1, "leastContainers"}}
	initiators = enum{{"BI_DIRECTIONAL", 1, "bi-directional"}, {"RESPONSE_ONLY", 2, "response-only"}}
	authModes  = enum{{"PSK", 1, "psk"}}
	dpdActions = enum{{"CLEAR", 1, "clear"}, {"HOLD", 2, "hold"}, {"RESTART", 3, "restart"},
		{"DISABLED", 4, "disabled"},
		{"RESTART_BY_PEER", 5, "restart-by-peer"}}
	groups      = enum{{"GROUP2", 1, "group2"}, {"GROUP5", 2, "group5"}, {"GROUP14", 3, "group14"}}
	integrities = enum{{"SHA1", 0, "sha1"}}
	encryptions = enum{{"DES_3", 0, "3des"}, {"AES_128", 1, "aes-128"}, {"AES_192", 2, "aes-192"},
		{"AES_256", 3, "aes-256"}}
	phase1Modes = enum{{"MAIN", 1, "main"}}
	ikeVersions = enum{{"V1", 1, "v1"}, {"V2", 2, "v2"}}
	protocols   = enum{{"ESP", 1, "esp"}, {"AH", 2, "ah"}, {"AH_ESP", 3, "ah-esp"}}
	modes       = enum{{"TUNNEL", 1, "tunnel"}, {"TRANSPORT", 2, "transport"}}
	codes       = enum{
		{"STARTING", 1, ""}, {"RUNNING", 2, ""}, {"STOPPING", 3, ""}, {"STOPPED", 4, ""}, {"ERROR", 5, ""},
	}
)

func (e enum) allowed() string {
	names := make([]string, len(e))
	for i, v := range e {
		names[i] = v.name
	}
	return strings.Join(names, ", ")
}
