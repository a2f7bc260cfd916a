// Attack simulates a daemon that an attacker controls: it has exactly the rights of a container's daemon, and attempts
// actions that these rights must not allow. The bats test isolation.bats runs it.
//
//	pluto OPTION…           runs as a container's daemon, in the place of /usr/libexec/ipsec/pluto (see captured.go)
//	attack ask NAME WORD…   makes the captured daemon of container NAME attempt an action, and prints the outcome
//	attack try WORD…        attempts an action with the rights of the caller, and prints the outcome
//
// An outcome is one line: "ok", the name of an error such as EPERM, the name of the signal that killed the program, or
// the data that the attempt read.
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attempt attempts an action. It returns the data that it read, or "" if it reads none.
type attempt func(args []string) (string, error)

// attempts has all attempts by name, which is the first word of an order.
var attempts = map[string]attempt{}

func register(more map[string]attempt) { maps.Copy(attempts, more) }

func main() {
	register(fileAttempts)
	register(processAttempts)
	register(kernelAttempts)
	register(linkAttempts)
	register(map[string]attempt{"make-credentials": credentials})
	switch {
	case filepath.Base(os.Args[0]) == "pluto":
		runAsPluto(os.Args[1:])
	case len(os.Args) > 1 && os.Args[1] == "serve":
		serveReplaced(os.Args[2:])
	case len(os.Args) > 2 && os.Args[1] == "try":
		fmt.Println(try(os.Args[2:]))
	case len(os.Args) > 3 && os.Args[1] == "ask":
		fmt.Println(sendOrder(os.Args[2], os.Args[3:]))
	default:
		reportExecution()
	}
}

// try makes one attempt and returns its outcome.
func try(words []string) string {
	do, ok := attempts[words[0]]
	if !ok {
		return "unknown attempt: " + words[0] + ", one of " + strings.Join(slices.Sorted(maps.Keys(attempts)), " ")
	}
	text, err := do(words[1:])
	return outcome(text, err)
}

// outcome formats the result of an attempt as one line.
func outcome(text string, err error) string {
	var code syscall.Errno
	switch {
	case errors.As(err, &code):
		return unix.ErrnoName(code)
	case err != nil:
		return "error: " + err.Error()
	case text == "":
		return "ok"
	}
	return text
}

// marker is the file that reportExecution makes.
const marker = "/run/attack-was-executed"

// reportExecution makes the marker, with the arguments. It runs if another program, such as a verb, executes a copy of
// this program instead of a program of Libreswan.
func reportExecution() {
	// If the caller does not have the rights to make the file, the execution was not a successful attack.
	_ = os.WriteFile(marker, []byte(strings.Join(os.Args, " ")+"\n"), 0o600)
	fmt.Println("Libreswan 4.10")
}
