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

// defaultTemplate is the template that applies to every host.
const defaultTemplate = "default"

// setting describes how MidoNet stores one runtime setting.
type setting struct {
	paths [][]string                       // where it is read; the first one is written
	parse func(raw json.RawMessage) string // returns a value for spec.ParseSetting, "" if raw is invalid
	print func(canonical string) string    // returns the value that is written
}

// settings maps the canonical key of each runtime setting (docs/nsdb.md) to its description. In MidoNet's schema a
// logger that has other loggers below it is written with the suffix root. MidoNet accepts every logger with the
// suffix and without it.
var settings = map[string]setting{
	"log-level":                  level("root"),
	"log-level.containers":       level("org.midonet.containers.root", "org.midonet.containers"),
	"log-level.containers.ipsec": level("org.midonet.containers.ipsec.root", "org.midonet.containers.ipsec"),
	"log-level.containers.ipsec.ipsec-pluto": level("org.midonet.containers.ipsec.ipsec-pluto",
		"org.midonet.containers.ipsec.ipsec-pluto.root"),
	spec.SettingStatusInterval: interval("agent.containers.ipsec.status_update_interval"),
}

// loggersPath is the path of the levels of the agent's loggers.
var loggersPath = []string{"agent", "loggers"}

func level(names ...string) setting {
	s := setting{parse: parseLevel, print: strings.ToUpper}
	for _, name := range names {
		s.paths = append(s.paths, slices.Concat(loggersPath, strings.Split(name, ".")))
	}
	return s
}

func interval(path string) setting {
	return setting{[][]string{strings.Split(path, ".")}, parseInterval, printInterval}
}

// levels maps the log levels of MidoNet to those of the supervisor.
var levels = map[string]string{
	"ALL": "debug", "TRACE": "debug", "DEBUG": "debug", "INFO": "info", "WARN": "warn", "ERROR": "error",
	"OFF": "error",
}

func parseLevel(raw json.RawMessage) string {
	var level string
	_ = json.Unmarshal(raw, &level) // if raw is no string, level stays "", which is not in levels
	return levels[strings.ToUpper(level)]
}

var (
	durationForm = regexp.MustCompile(`^\s*([0-9]{1,15})\s*([a-z]*)\s*$`)

	// units has the units of HOCON. A number without a unit is in milliseconds.
	units = map[string]time.Duration{
		"": time.Millisecond, "ms": time.Millisecond, "milli": time.Millisecond, "millis": time.Millisecond,
		"millisecond": time.Millisecond, "milliseconds": time.Millisecond,
		"s": time.Second, "second": time.Second, "seconds": time.Second,
		"m": time.Minute, "minute": time.Minute, "minutes": time.Minute,
		"h": time.Hour, "hour": time.Hour, "hours": time.Hour,
		"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
	}
)

func parseInterval(raw json.RawMessage) string {
	var duration string
	if json.Unmarshal(raw, &duration) != nil {
		duration = string(raw)
	}
	parts := durationForm.FindStringSubmatch(duration)
	if parts == nil {
		return ""
	}
	n, _ := strconv.ParseInt(parts[1], 10, 64) // cannot fail: durationForm allows 15 digits
	unit, ok := units[parts[2]]
	if !ok || n > int64(math.MaxInt64/unit) {
		return ""
	}
	return (time.Duration(n) * unit).String()
}

// printInterval converts a Go duration to a HOCON duration in s or ms.
func printInterval(canonical string) string {
	d, _ := time.ParseDuration(canonical) // cannot fail: spec.ParseSetting returned it
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
}

// findSetting returns the setting with a canonical key. An unknown key is a *spec.Fault.
func findSetting(key string) (setting, error) {
	s, ok := settings[key]
	if !ok {
		return s, &spec.Fault{
			Key: "setting", Value: key, Allowed: strings.Join(slices.Sorted(maps.Keys(settings)), ", "),
		}
	}
	return s, nil
}

// Setting returns the value of a setting in the data of a settings node, in canonical form. key is a canonical key.
// found is false if the setting is not set. An unknown key or an invalid value is a *spec.Fault.
func Setting(data []byte, key string) (value string, found bool, err error) {
	s, err := findSetting(key)
	if err != nil {
		return "", false, err
	}
	d, err := parseDocument(data)
	if err != nil {
		return "", false, err
	}
	return s.lookup(key, d)
}

func (s setting) lookup(key string, d *document) (value string, found bool, err error) {
	for _, path := range s.paths {
		raw, ok := d.get(path)
		// A logger has two paths. An object at one of them contains the other path, or loggers below this one.
		if !ok || string(raw) == "null" || raw[0] == '{' && len(s.paths) > 1 {
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

// EditSetting sets one setting in the data of a settings node and keeps the other settings. data is nil if the node
// does not exist. A key or value that is not allowed is a *spec.Fault. Data that is not one JSON object is an error,
// because its other settings could not be kept.
func EditSetting(data []byte, key, value string) ([]byte, error) {
	s, err := findSetting(key)
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
	path := s.paths[0]
	for n := len(loggersPath) + 1; n < len(path); n++ { // keep the level of a logger above this one
		if above, ok := d.get(path[:n]); ok && above[0] == '"' {
			d.set(slices.Concat(path[:n], []string{"root"}), above)
		}
	}
	d.set(path, marshal(s.print(canonical)))
	return d.print(), nil
}

// unknownLoggers returns one line that names the loggers in a settings node that the supervisor does not have, and ""
// if there are none.
func unknownLoggers(d *document) string {
	known := map[string]bool{}
	for _, s := range settings {
		for _, path := range s.paths {
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
	return "loggers that the supervisor does not have, whose levels have no effect: " + list +
		": known: " + strings.Join(loggers(), ", ")
}

// maxUnknown is the largest number of loggers that one line names.
const maxUnknown = 10

// loggerForm matches the path of a logger. A path that does not match is quoted.
var loggerForm = regexp.MustCompile(`^[A-Za-z0-9_.$-]{1,128}$`)

// loggers returns the names that the supervisor's loggers have in MidoNet.
func loggers() (names []string) {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if strings.HasPrefix(key, spec.SettingLogLevel) {
			names = append(names, strings.Join(settings[key].paths[0], "."))
		}
	}
	return names
}

// leaves returns the paths of all values below a path that are not objects. raw is the JSON value at the path.
func leaves(path string, raw json.RawMessage) (paths []string) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	d, err := parseDocument(raw)
	if err != nil {
		return []string{path}
	}
	for _, m := range d.members {
		paths = append(paths, leaves(path+"."+m.Key, m.Value)...)
	}
	return paths
}

var templateForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$`)

// effectiveSettings returns the settings in effect. The settings of the host override those of its template, which
// override those of the default template.
func (a *Assembler) effectiveSettings(f *resolution) map[string]string {
	paths := []string{a.tree.TemplateSettings(defaultTemplate)}
	if template := a.assignedTemplate(f); template != "" && template != defaultTemplate {
		paths = append(paths, a.tree.TemplateSettings(template))
	}
	paths = append(paths, a.tree.HostSettings(a.host))
	effective := map[string]string{}
	for _, path := range paths {
		d := f.readSettings(path)
		if unknown := unknownLoggers(d); unknown != "" {
			f.addFault(path, unknown)
		}
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			value, found, err := settings[key].lookup(key, d)
			if err != nil {
				f.addFault(path, err.Error())
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

// readSettings reads a settings node. For a node that cannot be read or parsed it records a fault and returns an
// empty document.
func (f *resolution) readSettings(path string) *document {
	data, state := f.get(path)
	switch state {
	case Present:
		d, err := parseDocument(data)
		if err == nil {
			return d
		}
		f.addFault(path, err.Error())
	case Unreadable:
		f.addFault(path, string(data))
	}
	return new(document)
}

// assignedTemplate returns the name of the template that is assigned to the host, and "" if none is.
func (a *Assembler) assignedTemplate(f *resolution) string {
	path := a.tree.TemplateMappings()
	raw, ok := f.readSettings(path).get([]string{string(a.host)})
	if !ok || string(raw) == "null" {
		return ""
	}
	var name string
	if json.Unmarshal(raw, &name) != nil || !templateForm.MatchString(name) {
		fault := &spec.Fault{Key: string(a.host), Value: string(raw), Allowed: "the name of a template"}
		f.addFault(path, fault.Error())
		return ""
	}
	return name
}
