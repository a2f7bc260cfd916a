package native

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Settings reads the document as settings, `config/default` or `config/hosts/<hostId>`: one value for each canonical
// key. A setting that is refused is a fault and is not in the result. The map is nil if there are no valid settings.
func (d *Document) Settings() (settings map[string]string, faults Faults) {
	for _, key := range slices.Sorted(maps.Keys(d.members)) {
		raw := d.members[key]
		if shownKey(key) != key {
			faults.addValue(spec.CheckSettingKey(hiddenKey))
			continue
		}
		if raw[0] == '[' || raw[0] == '{' || string(raw) == "null" {
			const allowed = "one value: keys are written whole, log-level.containers"
			faults.Form = append(faults.Form, &spec.Fault{Key: key, Value: describe(raw), Allowed: allowed})
			continue
		}
		text := string(raw)
		if raw[0] == '"' && json.Unmarshal(raw, &text) != nil {
			continue // cannot happen: the document was parsed
		}
		value, err := spec.ParseSetting(key, text)
		if err != nil {
			faults.addValue(err)
			continue
		}
		if settings == nil {
			settings = map[string]string{}
		}
		settings[key] = value
	}
	return settings, faults
}

// settings returns the settings in effect: those of the host override the default ones. It reports and ignores settings
// that cannot be read or are refused, so the default setting or the flag of the supervisor applies. No container
// depends on a setting, so such a fault makes nothing unknown.
func (a *assembly) settings() map[string]string {
	var effective map[string]string
	for _, scope := range []spec.SettingScope{spec.SettingDefault, spec.SettingScope(a.host)} {
		key := SettingsKey(scope)
		document, err := a.reader.Get(a.ctx, key)
		if errors.Is(err, ErrAbsent) {
			continue
		}
		if err != nil {
			a.addFault(&Fault{key, err.Error()})
			continue
		}
		parsed, faults := document.Settings()
		for _, fault := range faults.All() {
			a.addFault(&Fault{key, fault.Error()})
		}
		if effective == nil {
			effective = parsed
		} else {
			maps.Copy(effective, parsed)
		}
	}
	return effective
}
