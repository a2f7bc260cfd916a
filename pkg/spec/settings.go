package spec

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// SettingScope says for whom a runtime setting stands in the NSDB: SettingDefault for every host, else the id of one host,
// whose settings stand over the default's.
type SettingScope string

// SettingDefault is the scope of every host. A host of this id cannot have settings of its own.
const SettingDefault SettingScope = "default"

// The canonical keys of the runtime settings. SettingLogLevel is also the beginning of `log-level.<logger>`.
const (
	SettingLogLevel       = "log-level"
	SettingStatusInterval = "status-interval"
)

// The fields of a host that a command writes into the NSDB.
const (
	HostWeight = "container-weight" // 0: no new containers
	HostLimit  = "container-limit"  // -1: none
)

// Object is one object of an NSDB in its native form, as an export carries it: the key as in docs/nsdb.md (hosts/<id>,
// bindings/<hostId>/<portId>, containers/<id>, groups/<id>, configurations/<id>, config/default, config/hosts/<id>) and
// the value as JSON. A configuration carries secrets, so an Object is never logged.
type Object struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

const (
	settingKeyAllowed = "log-level, log-level.containers, log-level.containers.<type>, log-level.containers.<type>.<part>, status-interval"
	levelAllowed      = "debug, info, warn, error"
	intervalAllowed   = "a time from 100ms to 24h, like 30s"
)

const (
	intervalLeast = 100 * time.Millisecond
	intervalMost  = 24 * time.Hour
)

// loggerForm is the form of a logger's name: all containers, those of a type in lower case, a part of those.
var loggerForm = lazyregexp.New(`^containers(\.[a-z][a-z0-9_]{0,30}(\.[a-z][a-z0-9_-]{0,30})?)?$`)

// ParseSettingScope checks a scope: `default` or a host id.
func ParseSettingScope(s string) (SettingScope, error) {
	if !IsCNIName(s, 64) {
		return "", &Fault{"scope", s, "default, or a host id: " + idAllowed}
	}
	return SettingScope(s), nil
}

// CheckSettingKey checks that a key is a canonical one.
func CheckSettingKey(key string) error {
	logger, ofLogger := strings.CutPrefix(key, SettingLogLevel+".")
	if key == SettingLogLevel || key == SettingStatusInterval || ofLogger && loggerForm.MatchString(logger) {
		return nil
	}
	return &Fault{"setting", key, settingKeyAllowed}
}

// ParseSetting checks a key and its value, and returns the value in its canonical form: a level in lower case, a duration
// as time.Duration prints it.
func ParseSetting(key, value string) (string, error) {
	if err := CheckSettingKey(key); err != nil {
		return "", err
	}
	if key == SettingStatusInterval {
		d, err := time.ParseDuration(value)
		if err != nil || d < intervalLeast || d > intervalMost {
			return "", &Fault{key, value, intervalAllowed}
		}
		return d.String(), nil
	}
	switch level := strings.ToLower(value); level {
	case "debug", "info", "warn", "error":
		return level, nil
	}
	return "", &Fault{key, value, levelAllowed}
}

// CheckHostField checks a field of a host, HostWeight or HostLimit, and its value.
func CheckHostField(field string, n int) error {
	switch {
	case field != HostWeight && field != HostLimit:
		return &Fault{"host field", field, HostWeight + ", " + HostLimit}
	case field == HostWeight && n < 0:
		return &Fault{field, strconv.Itoa(n), "0 (no new containers) or more"}
	case field == HostLimit && n < -1:
		return &Fault{field, strconv.Itoa(n), "-1 (none), 0 or more"}
	}
	return nil
}
