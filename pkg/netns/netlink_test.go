package netns

import (
	"errors"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestNetlinkAnswersAreAskedForAgainOnlyWhenCutShort(t *testing.T) {
	other := errors.New("other")
	for _, row := range []struct {
		name   string
		errs   []error // one for each answer; the last is repeated
		asked  int
		result error
	}{
		{"an answer is taken", []error{nil}, 1, nil},
		{"a dump that was interrupted is read again", []error{netlink.ErrDumpInterrupted, nil}, 2, nil},
		{"a receive that a signal interrupted is made again", []error{unix.EINTR, unix.EINTR, nil}, 3, nil},
		{"but not for ever", []error{netlink.ErrDumpInterrupted}, netlinkTries, netlink.ErrDumpInterrupted},
		{"an error is an error", []error{other}, 1, other},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := 0
			err := withNetlink(func(*netlink.Handle) error {
				asked++
				return row.errs[min(asked, len(row.errs))-1]
			})
			if asked != row.asked || !errors.Is(err, row.result) {
				t.Errorf("asked %d times, %v; want %d, %v", asked, err, row.asked, row.result)
			}
		})
	}
	err := withNetlink(func(*netlink.Handle) error { return unix.EAGAIN })
	if err == nil || !strings.Contains(err.Error(), "no answer in 5s") {
		t.Errorf("a time-out is %v", err)
	}
}
