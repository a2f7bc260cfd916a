package native

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// Settings reads runtime settings, `config/default` and `config/hosts/<hostId>`: one value a key, by canonical keys. Each
// that is refused is a fault and is left out; the others stand. The map is nil where there is none.
func (d *Document) Settings() (settings map[string]string, faults Faults) {
	for _, key := range slices.Sorted(maps.Keys(d.members)) {
		raw := d.members[key]
		if pathKey(key) != key {
			faults.value(spec.CheckSettingKey(hiddenKey))
			continue
		}
		if raw[0] == '[' || raw[0] == '{' || string(raw) == "null" {
			faults.Form = append(faults.Form, &spec.Fault{Key: key, Value: form(raw), Allowed: "one value: keys are written whole, log-level.containers"})
			continue
		}
		text := string(raw)
		if raw[0] == '"' && json.Unmarshal(raw, &text) != nil {
			continue // cannot be: the document was parsed
		}
		value, err := spec.ParseSetting(key, text)
		if err != nil {
			faults.value(err)
			continue
		}
		if settings == nil {
			settings = map[string]string{}
		}
		settings[key] = value
	}
	return settings, faults
}

// settings are those in effect: the host's over the default's. What cannot be read or is refused is noted and left out, so
// that what stands under it is in effect; no container depends on a setting.
func (a *assembly) settings() map[string]string {
	var effective map[string]string
	for _, scope := range []spec.SettingScope{spec.SettingDefault, spec.SettingScope(a.host)} {
		key := SettingsKey(scope)
		document, err := a.reader.Get(a.ctx, key)
		if errors.Is(err, ErrAbsent) {
			continue
		}
		if err != nil {
			a.note(&Fault{key, err.Error()})
			continue
		}
		said, faults := document.Settings()
		for _, fault := range faults.All() {
			a.note(&Fault{key, fault.Error()})
		}
		if effective == nil {
			effective = said
		} else {
			maps.Copy(effective, said)
		}
	}
	return effective
}
