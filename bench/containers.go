package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// containers describes containers of one service type, with the names <prefix>0, <prefix>1, …
type containers struct {
	prefix      string
	serviceType string
	connections int // of each container
}

func (c containers) name(i int) string { return fmt.Sprintf("%s%d", c.prefix, i) }

func (c containers) configuration(i int) object {
	var connections []object
	for n := range c.connections {
		connections = append(connections, connection(n))
	}
	return object{"id": c.name(i), "externalIps": []string{"100.100.100.2"}, "connections": connections}
}

// connection returns a response-only connection, whose peer does not exist.
func connection(n int) object {
	peer := fmt.Sprintf("200.200.%d.2", n%250)
	return object{"id": fmt.Sprintf("c%d", n), "name": fmt.Sprintf("c%d", n), "adminStateUp": true,
		"peerAddress": peer, "peerId": peer, "localCidrs": []string{"10.1.0.0/24"},
		"peerCidrs": []string{fmt.Sprintf("10.2.%d.0/24", n%250)}, "initiator": "response-only", "mtu": 1400,
		"psk": "an example, known to everybody", "dpd": object{"action": "hold", "interval": 30, "timeout": 120},
		"ikePolicy": object{"ikeVersion": "v2", "encryptionAlgorithm": "aes-256", "authAlgorithm": "sha256",
			"pfs": "group14", "lifetime": 3600},
		"ipsecPolicy": object{"transformProtocol": "esp", "encapsulationMode": "tunnel",
			"encryptionAlgorithm": "aes-256", "authAlgorithm": "sha256", "pfs": "group14", "lifetime": 3600}}
}

// define writes the containers and configurations to the NSDB of files, but no bindings.
func (c containers) define(count int) error { return c.defineIn(count, put) }

// defineIn writes the same objects as define with the function put.
func (c containers) defineIn(count int, put func(key string, value object) error) error {
	for i := range count {
		container := object{
			"id": c.name(i), "serviceType": c.serviceType, "groupId": "bench", "configurationId": c.name(i),
		}
		configuration := object{"id": c.name(i)}
		if c.serviceType == "IPSEC" {
			configuration = c.configuration(i)
		}
		if err := put("configurations/"+c.name(i), configuration); err != nil {
			return err
		}
		if err := put("containers/"+c.name(i), container); err != nil {
			return err
		}
	}
	return nil
}

func (c containers) binding(i int) object {
	return object{"portId": c.name(i), "hostId": hostID, "interfaceName": c.name(i), "containerId": c.name(i),
		"addresses": []string{"169.254.0.1/30"}}
}

func (c containers) bindingKey(i int) string { return "bindings/" + hostID + "/" + c.name(i) }

// bind binds the containers and waits until the status of each is RUNNING.
func (c containers) bind(count int) error {
	return c.change(count, func(i int) error { return put(c.bindingKey(i), c.binding(i)) }, true)
}

// unbind removes the bindings and waits until all statuses are removed.
func (c containers) unbind(count int) error {
	return c.change(count, func(i int) error { return os.Remove(objectPath(c.bindingKey(i))) }, false)
}

// change calls binding for each container, and then waits until the count statuses are RUNNING, or removed if up is
// false.
func (c containers) change(count int, binding func(int) error, up bool) error {
	watcher, err := fsnotify.NewBufferedWatcher(1 << 16)
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := os.MkdirAll(statuses, 0o755); err != nil {
		return err
	}
	if err := watcher.Add(statuses); err != nil {
		return err
	}
	for i := range count {
		if err := binding(i); err != nil {
			return err
		}
	}
	return c.await(watcher, count, up)
}

// waitLimit is how long the benchmark waits for all statuses.
const waitLimit = 3 * time.Minute

// rescanAfter is the time without an event of the file system after which all statuses are read.
const rescanAfter = time.Second

// await waits until the statuses of the containers are RUNNING, or removed if up is false. It returns an error if a
// status is ERROR, or after waitLimit.
func (c containers) await(watcher *fsnotify.Watcher, count int, up bool) error {
	waiting := map[string]bool{}
	for i := range count {
		waiting[c.name(i)] = true
	}
	var failed error
	read := func(name string) {
		if !waiting[name] {
			return
		}
		text, err := os.ReadFile(filepath.Join(statuses, name+".json"))
		if strings.Contains(string(text), `"ERROR"`) {
			failed = fmt.Errorf("status of %s: %s", name, text)
		}
		if up && err == nil && strings.Contains(string(text), `"RUNNING"`) || !up && errors.Is(err, fs.ErrNotExist) {
			delete(waiting, name)
		}
	}
	limit := time.After(waitLimit)
	for len(waiting) > 0 && failed == nil {
		select {
		case event := <-watcher.Events:
			read(strings.TrimSuffix(filepath.Base(event.Name), ".json"))
		case <-time.After(rescanAfter):
			for name := range waiting {
				read(name)
			}
		case err := <-watcher.Errors:
			return err
		case <-limit:
			return fmt.Errorf("%d of %d containers do not have the expected status after %v", len(waiting), count,
				waitLimit)
		}
	}
	return failed
}
