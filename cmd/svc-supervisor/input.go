package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/svc-supervisor/svc-supervisor/internal/inputfile"
)

// readInput reads a file that was named on the command line: a regular one, or a pipe that somebody writes. It never waits
// for a writer to come, nor for what the kernel generates (/proc/kmsg): such a file has no size.
func readInput(path string) ([]byte, error) {
	file, stat, err := inputfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	switch mode := stat.Mode(); {
	case mode.IsRegular() && stat.Size() == 0:
		return nil, fmt.Errorf("%s: is empty: allowed: a file with content", path)
	case !mode.IsRegular() && mode&os.ModeNamedPipe == 0:
		return nil, fmt.Errorf("%s: is neither a regular file nor a pipe: allowed: one of these", path)
	}
	return inputfile.Read(file, stat)
}

// jsonFault says where a text is not the JSON that is wanted, without repeating what it holds: it may be a key.
func jsonFault(content []byte, err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("line %d: is not JSON from here on", lineAt(content, syntax.Offset))
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Sprintf("line %d: a value that does not fit its key", lineAt(content, wrong.Offset))
	}
	return "is not JSON of the wanted form"
}

func lineAt(content []byte, offset int64) int {
	return 1 + bytes.Count(content[:min(int(offset), len(content))], []byte("\n"))
}
