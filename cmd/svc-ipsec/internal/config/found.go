package config

import "github.com/svc-supervisor/svc-supervisor/pkg/spec"

// Found is what a document only points at: this room does no I/O, so room verb looks, and sets it before Resolve. What is
// missing in it refuses the connections that need it.
type Found struct {
	Files map[string]File // by path
}

// File is what a file holds, or why that cannot be had.
type File struct {
	Content spec.Secret
	Fault   string
}

// PSKFiles lists the files that hold the keys of connections that may run, each once.
func (c *Configuration) PSKFiles() []string {
	return c.each(func(c *Connection) string { return c.PSKFile })
}

// each lists what is not "" of the connections that may run, each once.
func (c *Configuration) each(of func(*Connection) string) []string {
	var values []string
	seen := map[string]bool{"": true}
	for _, connection := range c.Wanted() {
		if value := of(connection); !seen[value] {
			values = append(values, value)
			seen[value] = true
		}
	}
	return values
}
