package netns

import (
	"errors"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestWithNetlinkRepeatsOnlyInterruptedRequests(t *testing.T) {
	other := errors.New("other")
	for _, row := range []struct {
		name   string
		errs   []error // one for each call; the last is repeated
		calls  int
		result error
	}{
		{"a successful request is not repeated", []error{nil}, 1, nil},
		{"an interrupted dump is repeated", []error{netlink.ErrDumpInterrupted, nil}, 2, nil},
		{"a receive that a signal interrupted is repeated", []error{unix.EINTR, unix.EINTR, nil}, 3, nil},
		{"the number of attempts is bounded", []error{netlink.ErrDumpInterrupted}, netlinkTries,
			netlink.ErrDumpInterrupted},
		{"another error is returned", []error{other}, 1, other},
	} {
		t.Run(row.name, func(t *testing.T) {
			calls := 0
			err := withNetlink(func(*netlink.Handle) error {
				calls++
				return row.errs[min(calls, len(row.errs))-1]
			})
			if calls != row.calls || !errors.Is(err, row.result) {
				t.Errorf("%d calls, %v; want %d, %v", calls, err, row.calls, row.result)
			}
		})
	}
	err := withNetlink(func(*netlink.Handle) error { return unix.EAGAIN })
	if err == nil || !strings.Contains(err.Error(), "no answer in 5s") {
		t.Errorf("the error of a timeout is %v", err)
	}
}
