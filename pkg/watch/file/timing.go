package file

import "time"

// timing has the delays after which a change of the files is accepted.
type timing struct {
	renameDelay     time.Duration // from a rename into place to the scan, to include further renames of the same change
	debounce        time.Duration // how long a changed file must stay unchanged before it is read
	debounceNoLease time.Duration // debounce on file systems without leases, where open writers cannot be detected
	writerTimeout   time.Duration // debounce while a process has the file open for writing
	removalDelay    time.Duration // how long a file must be missing, and the directories unchanged, to count as removed
	maxHold         time.Duration // how long a set is held back because one file in it is being written
	maxUnstable     time.Duration // how long a set is held back while files or directories keep changing
}

// defaultTiming has the delays of Run:
//
//   - renameDelay: a file that was renamed into place is complete. The scan only waits for other files of the same
//     change.
//   - debounce: a program that writes a file in place has it open meanwhile. One that appends twice opens the file
//     again within about a millisecond.
//   - removalDelay: an editor or a copy tool leaves some milliseconds between removing the old file and creating the
//     new one, and a script that exchanges two directories needs little more. A user hardly notices that a container
//     runs for half a second after its binding was removed.
//   - writerTimeout: a process that has a file open for writing and has written nothing for 10 s is no longer writing
//     it. A stalled scp continues within this time.
var defaultTiming = timing{
	renameDelay:     time.Millisecond,
	debounce:        20 * time.Millisecond,
	debounceNoLease: 100 * time.Millisecond,
	writerTimeout:   10 * time.Second,
	removalDelay:    500 * time.Millisecond,
	maxHold:         time.Second,
	maxUnstable:     10 * time.Second,
}
