package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// defaultTemplate is the template of every host.
const defaultTemplate = "default"

// setting is one runtime setting: where MidoNet has it, and the two ways of writing it.
type setting struct {
	forms [][]string                       // the paths that name it; the first is written
	parse func(raw json.RawMessage) string // as spec.ParseSetting takes it; "" for what is nothing of the kind
	print func(canonical string) string
}

// settings are the runtime settings by their canonical keys (docs/nsdb.md). MidoNet addresses a logger that has others below
// it by the suffix root in its schema, and accepts each logger with the suffix and without it.
var settings = map[string]setting{
	"log-level":                              level("root"),
	"log-level.containers":                   level("org.midonet.containers.root", "org.midonet.containers"),
	"log-level.containers.ipsec":             level("org.midonet.containers.ipsec.root", "org.midonet.containers.ipsec"),
	"log-level.containers.ipsec.ipsec-pluto": level("org.midonet.containers.ipsec.ipsec-pluto", "org.midonet.containers.ipsec.ipsec-pluto.root"),
	spec.SettingStatusInterval:               interval("agent.containers.ipsec.status_update_interval"),
}

// loggersPath is where MidoNet has the levels of the agent's loggers.
var loggersPath = []string{"agent", "loggers"}

func level(names ...string) setting {
	s := setting{parse: parseLevel, print: strings.ToUpper}
	for _, name := range names {
		s.forms = append(s.forms, slices.Concat(loggersPath, strings.Split(name, ".")))
	}
	return s
}

func interval(path string) setting {
	return setting{[][]string{strings.Split(path, ".")}, parseInterval, printInterval}
}

// levels are the words of MidoNet's loggers and what they are here.
var levels = map[string]string{
	"ALL": "debug", "TRACE": "debug", "DEBUG": "debug", "INFO": "info", "WARN": "warn", "ERROR": "error", "OFF": "error",
}

func parseLevel(raw json.RawMessage) string {
	var word string
	_ = json.Unmarshal(raw, &word) // another value is no level
	return levels[strings.ToUpper(word)]
}

var (
	durationForm = regexp.MustCompile(`^\s*([0-9]{1,15})\s*([a-z]*)\s*$`)
	// The units of HOCON; a number without one is in milliseconds.
	units = map[string]time.Duration{
		"": time.Millisecond, "ms": time.Millisecond, "milli": time.Millisecond, "millis": time.Millisecond, "millisecond": time.Millisecond,
		"milliseconds": time.Millisecond, "s": time.Second, "second": time.Second, "seconds": time.Second, "m": time.Minute,
		"minute": time.Minute, "minutes": time.Minute, "h": time.Hour, "hour": time.Hour, "hours": time.Hour,
		"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
	}
)

func parseInterval(raw json.RawMessage) string {
	var word string
	if json.Unmarshal(raw, &word) != nil {
		word = string(raw)
	}
	parts := durationForm.FindStringSubmatch(word)
	if parts == nil {
		return ""
	}
	n, _ := strconv.ParseInt(parts[1], 10, 64) // 15 digits
	unit, ok := units[parts[2]]
	if !ok || n > int64(math.MaxInt64/unit) {
		return ""
	}
	return (time.Duration(n) * unit).String()
}

// printInterval writes a Go duration in a unit of HOCON's.
func printInterval(canonical string) string {
	d, _ := time.ParseDuration(canonical) // it was parsed before
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
}

// settingOf finds a setting by its canonical key.
func settingOf(key string) (setting, error) {
	s, ok := settings[key]
	if !ok {
		return s, &spec.Fault{Key: "setting", Value: key, Allowed: strings.Join(slices.Sorted(maps.Keys(settings)), ", ")}
	}
	return s, nil
}

// Setting returns what stands under a canonical key in the data of a node of settings, in its canonical form; false where
// nothing does. A value that is none is a *spec.Fault.
func Setting(data []byte, key string) (value string, found bool, err error) {
	s, err := settingOf(key)
	if err != nil {
		return "", false, err
	}
	d, err := parseDocument(data)
	if err != nil {
		return "", false, err
	}
	return s.of(key, d)
}

func (s setting) of(key string, d *document) (value string, found bool, err error) {
	for _, path := range s.forms {
		raw, ok := d.get(path)
		if !ok || string(raw) == "null" || raw[0] == '{' && len(s.forms) > 1 { // an object has the other form, or loggers below it
			continue
		}
		value, err = spec.ParseSetting(key, s.parse(raw))
		if fault, ok := errors.AsType[*spec.Fault](err); ok {
			return "", false, &spec.Fault{Key: strings.Join(path, "."), Value: string(raw), Allowed: fault.Allowed}
		}
		return value, true, nil
	}
	return "", false, nil
}

// EditSetting writes the value of one canonical key into the data of a node of settings (nil: there is none yet) and keeps
// the rest. A key or value that is not allowed is a *spec.Fault. Data that is not plain JSON is refused: it could not be kept.
func EditSetting(data []byte, key, value string) ([]byte, error) {
	s, err := settingOf(key)
	if err != nil {
		return nil, err
	}
	canonical, err := spec.ParseSetting(key, value)
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(data)
	if err != nil {
		return nil, err
	}
	path := s.forms[0]
	for n := len(loggersPath) + 1; n < len(path); n++ { // a logger above this one keeps its level
		if above, ok := d.get(path[:n]); ok && above[0] == '"' {
			d.set(slices.Concat(path[:n], []string{"root"}), above)
		}
	}
	d.set(path, marshal(s.print(canonical)))
	return d.print(), nil
}

// unknownLoggers returns one line that names the loggers of a node that the supervisor does not have; "" if there are none.
func unknownLoggers(d *document) string {
	known := map[string]bool{}
	for _, s := range settings {
		for _, path := range s.forms {
			known[strings.Join(path, ".")] = true
		}
	}
	raw, _ := d.get(loggersPath)
	if len(raw) == 0 || raw[0] != '{' {
		return ""
	}
	var unknown []string
	for _, logger := range leaves(strings.Join(loggersPath, "."), raw) {
		if !loggerForm.MatchString(logger) {
			logger = spec.Quote(logger)
		}
		if !known[logger] && !slices.Contains(unknown, logger) {
			unknown = append(unknown, logger)
		}
	}
	if len(unknown) == 0 {
		return ""
	}
	list := strings.Join(unknown[:min(len(unknown), maxUnknown)], ", ")
	if len(unknown) > maxUnknown {
		list += fmt.Sprintf(" and %d more", len(unknown)-maxUnknown)
	}
	return "loggers that the supervisor does not have: " + list + ": the level has no effect on it: known: " + strings.Join(loggers(), ", ")
}

// maxUnknown bounds how many loggers one line names.
const maxUnknown = 10

// loggerForm is what the path of a logger looks like. Another one is quoted.
var loggerForm = regexp.MustCompile(`^[A-Za-z0-9_.$-]{1,128}$`)

// loggers are the supervisor's loggers in MidoNet's words.
func loggers() (names []string) {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if strings.HasPrefix(key, spec.SettingLogLevel) {
			names = append(names, strings.Join(settings[key].forms[0], "."))
		}
	}
	return names
}

// leaves returns the paths of all plain values in a JSON value at a path.
func leaves(path string, raw json.RawMessage) (paths []string) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	d, err := parseDocument(raw)
	if err != nil {
		return []string{path}
	}
	for _, m := range d.members {
		paths = append(paths, leaves(path+"."+m.key, m.value)...)
	}
	return paths
}

var templateForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$`)

// settings reads the settings in effect: the host's own over those of its template over those of the default template.
func (a *Assembler) settings(f *following) map[string]string {
	paths := []string{a.tree.TemplateSettings(defaultTemplate)}
	if template := a.template(f); template != "" && template != defaultTemplate {
		paths = append(paths, a.tree.TemplateSettings(template))
	}
	paths = append(paths, a.tree.HostSettings(a.host))
	effective := map[string]string{}
	for _, path := range paths {
		d := f.document(path)
		if unknown := unknownLoggers(d); unknown != "" {
			f.fault(path, unknown)
		}
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			value, found, err := settings[key].of(key, d)
			if err != nil {
				f.fault(path, err.Error())
			}
			if found {
				effective[key] = value
			}
		}
	}
	if len(effective) == 0 {
		return nil
	}
	return effective
}

// document reads a node of settings; one that cannot be read is told, and says nothing.
func (f *following) document(path string) *document {
	data, state := f.get(path)
	switch state {
	case Present:
		d, err := parseDocument(data)
		if err == nil {
			return d
		}
		f.fault(path, err.Error())
	case Unreadable:
		f.fault(path, string(data))
	}
	return new(document)
}

// template is the name of the template that the host was assigned, "" if none.
func (a *Assembler) template(f *following) string {
	path := a.tree.TemplateMappings()
	raw, ok := f.document(path).get([]string{string(a.host)})
	if !ok || string(raw) == "null" {
		return ""
	}
	var name string
	if json.Unmarshal(raw, &name) != nil || !templateForm.MatchString(name) {
		fault := &spec.Fault{Key: string(a.host), Value: string(raw), Allowed: "the name of a template"}
		f.fault(path, fault.Error())
		return ""
	}
	return name
}
