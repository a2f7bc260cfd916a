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
	etcdPeer    = "127.0.0.1:23800"
	etcdPrefix  = "/bench/"
)

// latencyOverEtcd measures the latency with one etcd server, which it starts. It returns no rows if etcd is not
// installed.
func latencyOverEtcd(h *host, floor float64) ([]Row, error) {
	program, err := exec.LookPath("etcd")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: etcd is not installed, skipping its rows: install the package etcd-server")
		return nil, nil
	}
	server := exec.Command(program, "--name=bench", "--data-dir="+filepath.Join(root, "etcd"), "--log-level=error",
		"--listen-client-urls=http://"+etcdAddress, "--advertise-client-urls=http://"+etcdAddress,
		"--listen-peer-urls=http://"+etcdPeer, "--initial-advertise-peer-urls=http://"+etcdPeer,
		"--initial-cluster=bench=http://"+etcdPeer)
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
	host := object{"id": hostID, "name": "bench", "containerWeight": 1, "containerLimit": -1}
	if err := put("hosts/"+hostID, host); err != nil {
		return nil, err
	}
	await := func(c containers, count int, up bool) error { return awaitEtcdStatuses(client, c, count, up) }
	url := "etcd://" + etcdAddress + strings.TrimSuffix(etcdPrefix, "/")
	return latencyOver(h, floor, nsdb{"etcd", url, put, remove, await})
}

// awaitEtcdStatuses waits until count statuses are RUNNING, or until none exists if up is false.
func awaitEtcdStatuses(client *clientv3.Client, c containers, count int, up bool) error {
	prefix := etcdPrefix + "status/containers/" + hostID + "/" + c.prefix
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		answer, err := client.Get(context.Background(), prefix, clientv3.WithPrefix())
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
	return fmt.Errorf("the %d containers %s* do not have the expected status after %v", count, c.prefix, waitLimit)
}
