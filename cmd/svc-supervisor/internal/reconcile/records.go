package reconcile

import "github.com/svc-supervisor/svc-supervisor/pkg/statedir"

// recordWriter writes records, and keeps the index of their names, ports and container ids in desired up to date.
type recordWriter struct {
	Records
	desired *desired
}

// write writes a record.
func (w recordWriter) write(record *statedir.Record) error {
	if err := w.Write(record); err != nil {
		return err
	}
	w.desired.recorded(record)
	return nil
}
