package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// real is Libreswan's own daemon, which the test has moved aside.
	real = "/usr/libexec/ipsec/pluto.real"
	// captured lists the containers whose daemon is captured, one name on each line.
	captured = "/usr/libexec/ipsec/pluto.captured"
	// socketName is the name, below run/, of the socket at which a captured daemon takes orders.
	socketName = "orders"

	attemptLimit = 20 * time.Second
	startLimit   = 60 * time.Second
)

// captive runs as a container's daemon. In a container that is captured, Libreswan's daemon becomes its child, so that whack
// is answered as usual, and this program stays the main process of the unit.
func captive(args []string) {
	run := runDirectory(args)
	if !isCaptured(run) {
		fail(syscall.Exec(real, append([]string{real}, args...), os.Environ()))
	}
	daemon := exec.Command(real, args...)
	daemon.Stdout, daemon.Stderr = os.Stdout, os.Stderr
	for _, variable := range os.Environ() { // systemd accepts notifications of the main process only
		if !strings.HasPrefix(variable, "NOTIFY_SOCKET=") && !strings.HasPrefix(variable, "WATCHDOG_") {
			daemon.Env = append(daemon.Env, variable)
		}
	}
	if err := daemon.Start(); err != nil {
		fail(err)
	}
	for deadline := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Lstat(filepath.Join(run, "pluto.ctl")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			fail(errors.New("no control socket of Libreswan's daemon"))
		}
	}
	serve(run, daemon.Process.Pid)
}

// runDirectory returns the value of pluto's option --rundir.
func runDirectory(args []string) string {
	if i := slices.Index(args, "--rundir"); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func isCaptured(run string) bool {
	names, err := os.ReadFile(captured)
	return err == nil && run != "" && slices.Contains(strings.Fields(string(names)), filepath.Base(filepath.Dir(run)))
}

// serveReplaced continues after order "replace".
func serveReplaced(args []string) {
	pid, err := strconv.Atoi(args[1])
	if err != nil {
		fail(err)
	}
	serve(args[0], pid)
}

// serve takes orders until Libreswan's daemon ends.
func serve(run string, daemon int) {
	path := filepath.Join(run, socketName)
	_ = os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		fail(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				fail(err)
			}
			go answer(conn, run, daemon)
		}
	}()
	if err := notify("READY=1"); err != nil {
		fail(err)
	}
	go func() {
		for range time.Tick(10 * time.Second) {
			_ = notify("WATCHDOG=1")
		}
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	go func() {
		<-stop
		_ = unix.Kill(daemon, unix.SIGTERM)
	}()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(daemon, &status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	os.Exit(status.ExitStatus())
}

// answer carries out one order. An attempt is made by a child with the same rights, because a system call that the unit
// denies kills the process.
func answer(conn net.Conn, run string, daemon int) {
	defer conn.Close()
	var words []string
	if err := json.NewDecoder(conn).Decode(&words); err != nil || len(words) == 0 {
		return
	}
	var said string
	switch words[0] {
	case "notify": // of the main process
		said = outcome("", notify(strings.Join(words[1:], " ")))
	case "silent": // a socket that accepts no connection, in the place of the file
		_ = os.Remove(words[1])
		_, err := net.Listen("unix", words[1])
		said = outcome("", err)
	case "replace":
		said = outcome("", replace(run, daemon))
	default:
		said = attemptOf(words)
	}
	_, _ = conn.Write([]byte(said))
}

func attemptOf(words []string) string {
	cmd := exec.Command("/proc/self/exe", append([]string{"try"}, words...)...)
	cmd.Args[0] = "attack"
	cmd.Stderr = os.Stderr
	timer := time.AfterFunc(attemptLimit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	output, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return unix.SignalName(status.Signal())
		}
	}
	if err != nil {
		return outcome("", err)
	}
	return strings.TrimSpace(string(output))
}

// replace executes a copy of this program that has no file, so that /proc/<main process>/exe is the attacker's.
func replace(run string, daemon int) error {
	fd, err := copyToMemory("/proc/self/exe")
	if err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"attack", "serve", run, strconv.Itoa(daemon)}, os.Environ())
}

// copyToMemory copies a program into a file without a name.
func copyToMemory(path string) (int, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	fd, err := unix.MemfdCreate("attack", 0)
	if err != nil {
		return 0, err
	}
	for len(program) > 0 {
		n, err := unix.Write(fd, program)
		if err != nil {
			return 0, err
		}
		program = program[n:]
	}
	return fd, nil
}

// ask sends an order to the captured daemon of a container and returns the answer.
func ask(container string, words []string) string {
	conn, err := net.Dial("unix", filepath.Join("/run/svc-ipsec", container, "run", socketName))
	if err != nil {
		return "error: " + err.Error()
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(words); err != nil {
		return "error: " + err.Error()
	}
	said := make([]byte, 1<<20)
	n := 0
	for {
		more, err := conn.Read(said[n:])
		n += more
		if err != nil {
			break
		}
	}
	return string(said[:n])
}

// notify sends a message to the service manager.
func notify(state string) error {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "attack:", err)
	os.Exit(1)
}
