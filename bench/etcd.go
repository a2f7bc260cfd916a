package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	etcdAddress = "127.0.0.1:23790"
	etcdPrefix  = "/bench/"
)

// latencyOverEtcd starts one etcd server for its time. Without the program there are no rows.
func latencyOverEtcd(h *host, floor float64) ([]Row, error) {
	program, err := exec.LookPath("etcd")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: no etcd server here: install the package etcd-server")
		return nil, nil
	}
	server := exec.Command(program, "--name=bench", "--data-dir="+filepath.Join(root, "etcd"), "--log-level=error",
		"--listen-client-urls=http://"+etcdAddress, "--advertise-client-urls=http://"+etcdAddress, "--listen-peer-urls=http://127.0.0.1:23800",
		"--initial-advertise-peer-urls=http://127.0.0.1:23800", "--initial-cluster=bench=http://127.0.0.1:23800")
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		return nil, err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdAddress}, DialTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	put := func(key string, value object) error {
		text, err := json.Marshal(value)
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			_, err = client.Put(ctx, etcdPrefix+key, string(text))
		}
		return err
	}
	remove := func(key string) error {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		_, err := client.Delete(ctx, etcdPrefix+key)
		return err
	}
	if err := put("hosts/"+hostID, object{"id": hostID, "name": "bench", "containerWeight": 1, "containerLimit": -1}); err != nil {
		return nil, err
	}
	settled := func(c containers, count int, up bool) error { return etcdSettled(client, c, count, up) }
	return latencyOver(h, floor, nsdb{"etcd", "etcd://" + etcdAddress + strings.TrimSuffix(etcdPrefix, "/"), put, remove, settled})
}

// etcdSettled waits until count statuses are RUNNING, or gone.
func etcdSettled(client *clientv3.Client, c containers, count int, up bool) error {
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		answer, err := client.Get(context.Background(), etcdPrefix+"status/containers/"+hostID+"/"+c.prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		running := 0
		for _, kv := range answer.Kvs {
			if strings.Contains(string(kv.Value), `"RUNNING"`) {
				running++
			}
		}
		if up && running == count || !up && len(answer.Kvs) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d containers of %s are not settled after %v", count, c.prefix, waitLimit)
}
