package publish

import (
	"log/slog"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// failure summarizes the statuses that could not be written: their number and the first error. During an outage all
// errors are the same.
type failure struct {
	count    int // 0: only takeOver is set
	err      error
	id       spec.ContainerID
	name     spec.Name // "": the status of the host, a removal, or a status of an earlier process
	takeOver error     // why the statuses of an earlier process could not be listed
}

// add returns the summary with one more failed status.
func (f *failure) add(err error, id spec.ContainerID, e *entry) *failure {
	if f == nil {
		f = new(failure)
	}
	if f.count++; f.count == 1 {
		status, _ := e.status.(spec.ContainerStatus)
		f.err, f.id, f.name = err, id, status.InterfaceName
	}
	return f
}

// addTakeOver returns the summary with a failed take-over, or unchanged if err is nil.
func (f *failure) addTakeOver(err error) *failure {
	if err == nil {
		return f
	}
	if f == nil {
		f = new(failure)
	}
	f.takeOver = err
	return f
}

// report logs the summary in one line.
func (f *failure) report(log *slog.Logger, extra ...any) {
	if f.count == 0 {
		log.Warn("statuses of an earlier run not taken over", append([]any{"error", f.takeOver}, extra...)...)
		return
	}
	fields := []any{"failed", f.count, "error", f.err}
	if f.name != "" {
		fields = append(fields, "container", f.name)
	}
	if f.id != "" {
		fields = append(fields, "containerId", f.id)
	}
	log.Warn("status not published", append(fields, extra...)...)
}
