package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-supervisor/internal/plugin"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/file"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

func validateCommand() *cli.Command {
	return &cli.Command{
		Name: "validate",
		Usage: "check the objects of an NSDB: every fault with its file or key, the key inside, and what is allowed;" +
			" the service executables check the configurations",
		ArgsUsage: "DIR|URL",
		Flags:     []cli.Flag{pluginPathFlag},
		Action: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return &spec.Fault{
					Key: "validate argument", Value: fmt.Sprint(c.Args().Slice()),
					Allowed: "one directory, or one URL of an NSDB",
				}
			}
			faults, err := validate(c, c.Args().First())
			if err == nil && faults > 0 {
				return fmt.Errorf("validate %s: %d faults", c.Args().First(), faults)
			}
			return wrap("validate", err)
		},
	}
}

// validation collects the results of the checks of one NSDB.
type validation struct {
	findings []file.Finding
	warnings []string
	objects  map[native.Key]file.Object // the objects without a fault
}

// validate prints the warnings and faults, and returns the number of faults.
func validate(c *cli.Context, target string) (int, error) {
	v, err := findFaults(c.Context, target)
	if err != nil {
		return 0, err
	}
	if err := v.runExecutables(c); err != nil {
		return 0, err
	}
	for _, warning := range v.warnings {
		fmt.Fprintf(c.App.ErrWriter, "svc-supervisor: warning: %s\n", oneCell(warning))
	}
	slices.SortStableFunc(v.findings, func(a, b file.Finding) int { return cmp.Compare(a.File, b.File) })
	v.findings = slices.Compact(v.findings)
	for _, finding := range v.findings {
		fmt.Fprintln(c.App.Writer, oneCell(finding.String()))
	}
	return len(v.findings), nil
}

// findFaults reads and checks an NSDB. target is a directory or the URL of an NSDB.
func findFaults(ctx context.Context, target string) (*validation, error) {
	if !strings.Contains(target, "://") {
		return faultsOfDirectory(target)
	}
	if u, err := url.Parse(target); err == nil && u.Scheme == "file" {
		location, err := file.ParseURL(u)
		if err != nil {
			return nil, err
		}
		return faultsOfDirectory(location.Dir)
	}
	nsdb, err := watch.OpenAdmin(target, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer nsdb.Close()
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	objects, err := nsdb.Export(ctx)
	incomplete := new(native.Incomplete)
	if err != nil && !errors.As(err, &incomplete) {
		return nil, err
	}
	v := faultsOfObjects(objects)
	for _, fault := range incomplete.Faults {
		v.findings = append(v.findings, file.Finding{File: string(fault.Key), Wrong: fault.Text})
	}
	return v, nil
}

func faultsOfDirectory(dir string) (v *validation, err error) {
	v = new(validation)
	if v.findings, v.objects, err = file.ValidateObjects(dir); err != nil {
		return nil, err
	}
	exposures, err := file.Exposures(dir)
	for _, exposure := range exposures {
		v.warnings = append(v.warnings, exposure.String())
	}
	return v, err
}

// faultsOfObjects checks each object on its own. The findings have the key of the object in the place of a file name.
func faultsOfObjects(objects []spec.Object) *validation {
	v := &validation{objects: map[native.Key]file.Object{}}
	for _, object := range objects {
		document, err := native.Parse(object.Value, native.JSON)
		check, keyErr := native.ParseKey(object.Key)
		if err := errors.Join(keyErr, err); err != nil {
			v.findings = append(v.findings, file.Finding{File: object.Key, Wrong: err.Error()})
			continue
		}
		faults := check(document).All()
		for _, fault := range faults {
			v.findings = append(v.findings, file.Finding{
				File: object.Key, Key: fault.Key, Wrong: spec.Quote(fault.Value), Allowed: fault.Allowed,
			})
		}
		if len(faults) == 0 {
			v.objects[native.Key(object.Key)] = file.Object{File: object.Key, Document: document}
		}
	}
	return v
}

// runExecutables runs VALIDATE of the executable of each container's type, and adds the faults that it reports. A type
// that no executable on this host serves is skipped: it is served on another host.
func (v *validation) runExecutables(c *cli.Context) error {
	documents := map[native.Key]*native.Document{}
	for key, object := range v.objects {
		documents[key] = object.Document
	}
	configured := native.ListConfigured(documents)
	if len(configured) == 0 {
		return nil
	}
	inventory, err := scan(c)
	if err != nil {
		return err
	}
	warned := map[string]bool{} // by path of the executable
	for _, target := range configured {
		executable, ok := inventory.Select(target.Conf.Container.ServiceType)
		if !ok {
			continue
		}
		if !executable.Validate {
			if !warned[executable.Path] {
				v.warnings = append(v.warnings, fmt.Sprintf(
					"%s does not offer VALIDATE: configurations of type %s are not checked", executable.Found,
					executable.Type))
			}
			warned[executable.Path] = true
			continue
		}
		faults, err := runValidate(c.Context, inventory, executable, target.Conf)
		if err != nil {
			faults = []spec.ValidationFault{
				{Wrong: fmt.Sprintf("was not checked: VALIDATE of %s: %v", executable.Found, err)},
			}
		}
		for _, fault := range faults {
			v.findings = append(v.findings, file.Finding{
				File: v.objects[target.Key].File, Key: fault.Key, Wrong: fault.Wrong, Allowed: fault.Allowed,
			})
		}
	}
	return nil
}

// runValidate runs VALIDATE and returns the faults that the executable reports. The error object of the code for a bad
// configuration counts as one fault. The error is not nil if the executable gave no valid answer.
func runValidate(ctx context.Context, inventory *plugin.Inventory, e plugin.Executable, conf *spec.Conf) (
	[]spec.ValidationFault, error,
) {
	conf.Type = plugin.CNIType(e.Path)
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	stdout, err := inventory.Run(ctx, plugin.Call{
		Executable: e.Path, Verb: spec.Validate, ContainerID: string(conf.Container.ContainerID),
		Stdin: stdin, Deadline: versionDeadline, Stderr: func(string) {},
	})
	var object *spec.Error
	if errors.As(err, &object) && object.Code == spec.CodeConfiguration {
		return []spec.ValidationFault{{Wrong: object.Msg}}, nil
	}
	if err != nil {
		return nil, err
	}
	answer := new(spec.Validation)
	if err := json.Unmarshal(stdout, answer); err != nil || answer.Faults == nil {
		return nil, errors.New("the answer is not an object with a list `faults`")
	}
	return answer.Faults, nil
}
