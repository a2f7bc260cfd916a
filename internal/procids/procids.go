// Package procids lists the processes that are visible in /proc.
package procids

import (
	"os"
	"strconv"
)

// All returns the ids of all processes. A process may end before the caller reads its files.
func All() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, entry := range entries {
		if id, err := strconv.Atoi(entry.Name()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
