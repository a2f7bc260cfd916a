// Attack plays a daemon that an attacker controls: a program with exactly the rights of a container's daemon tries what these
// rights must not allow. The bats test isolation.bats runs it.
//
//	pluto OPTION…           as a container's daemon, in the place of the file /usr/libexec/ipsec/pluto (see captive.go)
//	attack ask NAME WORD…   makes the captured daemon of container NAME try something, and prints the outcome
//	attack try WORD…        tries it with the rights of the caller
//
// An outcome is one line: "ok", the name of an error such as EPERM, the name of the signal that killed the program, or
// what the program read.
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

// attempt tries something and returns what it read, if it reads something.
type attempt func(args []string) (string, error)

// attempts holds all attempts by their first word.
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
		captive(os.Args[1:])
	case len(os.Args) > 1 && os.Args[1] == "serve":
		serveReplaced(os.Args[2:])
	case len(os.Args) > 2 && os.Args[1] == "try":
		fmt.Println(try(os.Args[2:]))
	case len(os.Args) > 3 && os.Args[1] == "ask":
		fmt.Println(ask(os.Args[2], os.Args[3:]))
	default:
		executed()
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

// marker is made by a copy of this program that somebody executes with arguments that are none of its own.
const marker = "/run/attack-was-executed"

func executed() {
	// Without the rights to make it, there is nothing to report either.
	_ = os.WriteFile(marker, []byte(strings.Join(os.Args, " ")+"\n"), 0o600)
	fmt.Println("Libreswan 4.10")
}
