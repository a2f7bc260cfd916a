package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/svc-supervisor/svc-supervisor/internal/inputfile"
)

// readInput reads a file that was named on the command line. It must be a regular file with content or a pipe.
// readInput does not wait for a process to open the pipe for writing. It refuses files of size 0, because reading a
// file that the kernel generates (/proc/kmsg) may block, and such files have size 0.
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

// jsonFault describes an error of encoding/json by the line that it is about. It does not repeat the content, which may
// be a secret key.
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
