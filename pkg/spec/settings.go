package spec

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/internal/lazyregexp"
)

// SettingScope is the scope of a runtime setting in the NSDB: SettingDefault for all hosts, or the id of one host. The
// settings of a host override the default ones.
type SettingScope string

// SettingDefault is the scope that applies to all hosts. A host with this id cannot have settings of its own.
const SettingDefault SettingScope = "default"

// The canonical keys of the runtime settings. SettingLogLevel is also the prefix of `log-level.<logger>`.
const (
	SettingLogLevel       = "log-level"
	SettingStatusInterval = "status-interval"
)

// The fields of a host that a command writes into the NSDB.
const (
	HostWeight = "container-weight" // 0: no new containers
	HostLimit  = "container-limit"  // -1: no limit
)

// Object is one NSDB object in its native form, as an export contains it. The key has the form of docs/nsdb.md
// (hosts/<id>, bindings/<hostId>/<portId>, containers/<id>, groups/<id>, configurations/<id>, config/default,
// config/hosts/<id>), and the value is JSON. A configuration contains secrets, so an Object is never logged.
type Object struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

const (
	settingKeyAllowed = "log-level, log-level.containers, log-level.containers.<type>, " +
		"log-level.containers.<type>.<part>, status-interval"
	levelAllowed    = "debug, info, warn, error"
	intervalAllowed = "a time from 100ms to 24h, like 30s"
)

const (
	intervalMin = 100 * time.Millisecond
	intervalMax = 24 * time.Hour
)

// loggerForm matches the name of a logger: that of all containers, of the containers of one type (in lower case), or of
// one part of the containers of a type.
var loggerForm = lazyregexp.New(`^containers(\.[a-z][a-z0-9_]{0,30}(\.[a-z][a-z0-9_-]{0,30})?)?$`)

// ParseSettingScope checks a scope: `default` or a host id.
func ParseSettingScope(s string) (SettingScope, error) {
	if !IsCNIName(s, 64) {
		return "", &Fault{"scope", s, "default, or a host id: " + idAllowed}
	}
	return SettingScope(s), nil
}

// CheckSettingKey checks that a key is a canonical key of a runtime setting.
func CheckSettingKey(key string) error {
	logger, ofLogger := strings.CutPrefix(key, SettingLogLevel+".")
	if key == SettingLogLevel || key == SettingStatusInterval || ofLogger && loggerForm.MatchString(logger) {
		return nil
	}
	return &Fault{"setting", key, settingKeyAllowed}
}

// ParseSetting checks a key and its value, and returns the value in its canonical form: a log level in lower case, a
// duration as time.Duration prints it.
func ParseSetting(key, value string) (string, error) {
	if err := CheckSettingKey(key); err != nil {
		return "", err
	}
	if key == SettingStatusInterval {
		d, err := time.ParseDuration(value)
		if err != nil || d < intervalMin || d > intervalMax {
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

// CheckHostField checks the name of a host's field, which must be HostWeight or HostLimit, and its value.
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
