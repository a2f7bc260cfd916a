package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/svc-supervisor/svc-supervisor/internal/jsonform"
	"github.com/svc-supervisor/svc-supervisor/internal/strictjson"
	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch"
	"github.com/svc-supervisor/svc-supervisor/pkg/watch/native"
)

// exportVersion is the version of the document that export writes and import reads.
const exportVersion = 1

// exitIncomplete is the exit status of an export that was written without the objects that could not be read.
const exitIncomplete = 3

// exported is the document that nsdb export writes. It contains the secrets of all hosts.
type exported struct {
	Version int           `json:"version"`
	Objects []spec.Object `json:"objects"`
}

func nsdbCommand() *cli.Command {
	flags := []cli.Flag{nsdbFlag, hostIDFlag}
	return &cli.Command{
		Name:            "nsdb",
		Usage:           "copy the objects of all hosts from any NSDB to files or to etcd, including secrets",
		HideHelpCommand: true,
		Action:          noSubcommand("export, import"),
		Subcommands: []*cli.Command{
			{
				Name: "export", Usage: "write all objects to a new file that only its owner can read",
				ArgsUsage: "FILE", Flags: flags,
				Action: func(c *cli.Context) error { return wrap("nsdb export", exportNSDB(c)) },
			},
			{
				Name:      "import",
				Usage:     "create or replace the objects of such a file, in files or in etcd; others are not removed",
				ArgsUsage: "FILE", Flags: flags,
				Action: func(c *cli.Context) error { return wrap("nsdb import", importNSDB(c)) },
			},
		},
	}
}

func oneFile(c *cli.Context) (string, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return "", &spec.Fault{Key: "arguments", Value: fmt.Sprint(c.Args().Slice()), Allowed: "one file"}
	}
	return c.Args().First(), nil
}

func exportNSDB(c *cli.Context) error {
	path, err := oneFile(c)
	if err != nil {
		return err
	}
	// Fail before the NSDB is read. O_EXCL in writeNew covers a file that is made meanwhile.
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w: allowed: a file that does not exist yet", path, fs.ErrExist)
	}
	nameDefaultNSDB(c)
	return administer(c, func(ctx context.Context, nsdb watch.Admin) error {
		objects, err := nsdb.Export(ctx)
		incomplete := new(native.Incomplete)
		if err != nil && !errors.As(err, &incomplete) {
			return err
		}
		if err := writeNew(path, exported{exportVersion, objects}); err != nil {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "%d objects written to %s\n", len(objects), path)
		if len(incomplete.Faults) == 0 {
			return nil
		}
		for _, fault := range incomplete.Faults {
			fmt.Fprintf(c.App.ErrWriter, "svc-supervisor: nsdb export: %s\n", fault)
		}
		return cli.Exit(fmt.Sprintf("%s is not complete: %d faults", path, len(incomplete.Faults)), exitIncomplete)
	})
}

// writeNew creates the file with mode 0600. If writing fails, it removes the file. O_EXCL fails if the path exists, and
// does not follow a symbolic link that another user placed there.
func writeNew(path string, document exported) error {
	content, err := jsonform.MarshalIndent(document)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(content, '\n'))
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

func importNSDB(c *cli.Context) error {
	path, err := oneFile(c)
	if err != nil {
		return err
	}
	document, err := readExport(path)
	if err != nil {
		return err
	}
	nameDefaultNSDB(c)
	return administer(c, func(ctx context.Context, nsdb watch.Admin) error {
		if err := nsdb.Import(ctx, document.Objects); err != nil {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "%d objects read from %s\n", len(document.Objects), path)
		return nil
	})
}

// readExport reads a document of exportVersion. Its errors contain nothing of the document but the version and keys,
// because the values may be secrets.
func readExport(path string) (*exported, error) {
	content, err := readInput(path)
	if err != nil {
		return nil, err
	}
	const allowed = "a file that nsdb export wrote"
	var head struct {
		Version json.RawMessage `json:"version"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		if errors.As(err, new(*json.SyntaxError)) {
			return nil, fmt.Errorf("%s: %s: allowed: %s", path, jsonFault(content, err), allowed)
		}
		return nil, fmt.Errorf("%s: is not an export: allowed: %s", path, allowed)
	}
	if string(head.Version) != strconv.Itoa(exportVersion) {
		written := "not a number"
		if n, err := strconv.Atoi(string(head.Version)); err == nil {
			written = strconv.Itoa(n)
		}
		fault := &spec.Fault{Key: "version", Value: written, Allowed: strconv.Itoa(exportVersion)}
		return nil, fmt.Errorf("%s: %w", path, fault)
	}
	document := new(exported)
	if err := strictjson.Unmarshal(content, document); err != nil {
		return nil, fmt.Errorf("%s: an object is not a key and a value, or there is another key: allowed: %s", path,
			allowed)
	}
	return document, nil
}
