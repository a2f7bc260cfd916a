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
	// realPluto is Libreswan's daemon, which the test has renamed.
	realPluto = "/usr/libexec/ipsec/pluto.real"
	// capturedList lists the containers whose daemon is captured, one name per line.
	capturedList = "/usr/libexec/ipsec/pluto.captured"
	// socketName is the name, below run/, of the socket on which a captured daemon accepts orders.
	socketName = "orders"

	attemptLimit = 20 * time.Second
	startLimit   = 60 * time.Second
)

// runAsPluto is the program in the place of pluto. If the container is not captured, it executes the real pluto. In a
// captured container it starts the real pluto as its child, so that whack works as usual, and remains the main process
// of the unit itself.
func runAsPluto(args []string) {
	run := runDirectory(args)
	if !isCaptured(run) {
		fail(syscall.Exec(realPluto, append([]string{realPluto}, args...), os.Environ()))
	}
	daemon := exec.Command(realPluto, args...)
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

// isCaptured reports whether the container with this run directory is captured.
func isCaptured(run string) bool {
	names, err := os.ReadFile(capturedList)
	return err == nil && run != "" && slices.Contains(strings.Fields(string(names)), filepath.Base(filepath.Dir(run)))
}

// serveReplaced continues serve in the program that the order "replace" executed.
func serveReplaced(args []string) {
	pid, err := strconv.Atoi(args[1])
	if err != nil {
		fail(err)
	}
	serve(args[0], pid)
}

// serve carries out orders from the socket until Libreswan's daemon ends.
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
			go handleOrder(conn, run, daemon)
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

// handleOrder carries out one order and sends the outcome. Attempts are made by a child process with the same rights,
// because a system call that the unit denies kills the process.
func handleOrder(conn net.Conn, run string, daemon int) {
	defer conn.Close()
	var order []string
	if err := json.NewDecoder(conn).Decode(&order); err != nil || len(order) == 0 {
		return
	}
	var result string
	switch order[0] {
	case "notify": // systemd accepts it from the main process only
		result = outcome("", notify(strings.Join(order[1:], " ")))
	case "silent": // replace a file by a socket that accepts no connection
		_ = os.Remove(order[1])
		_, err := net.Listen("unix", order[1])
		result = outcome("", err)
	case "replace":
		result = outcome("", replace(run, daemon))
	default:
		result = tryInChild(order)
	}
	_, _ = conn.Write([]byte(result))
}

// tryInChild makes an attempt in a child process and returns the outcome. If a signal killed the child, the outcome is
// the name of the signal.
func tryInChild(order []string) string {
	cmd := exec.Command("/proc/self/exe", append([]string{"try"}, order...)...)
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

// replace executes a copy of this program in memory, so that /proc/<pid of the main process>/exe is a file of the
// attacker.
func replace(run string, daemon int) error {
	fd, err := copyToMemory("/proc/self/exe")
	if err != nil {
		return err
	}
	args := []string{"attack", "serve", run, strconv.Itoa(daemon)}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), args, os.Environ())
}

// copyToMemory copies a program to an anonymous file (memfd_create(2)), and returns its descriptor.
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

// sendOrder sends an order to the captured daemon of a container and returns the outcome.
func sendOrder(container string, order []string) string {
	conn, err := net.Dial("unix", filepath.Join("/run/svc-ipsec", container, "run", socketName))
	if err != nil {
		return "error: " + err.Error()
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(order); err != nil {
		return "error: " + err.Error()
	}
	result := make([]byte, 1<<20)
	n := 0
	for {
		more, err := conn.Read(result[n:])
		n += more
		if err != nil {
			break
		}
	}
	return string(result[:n])
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
