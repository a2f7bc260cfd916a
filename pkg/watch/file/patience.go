package file

import "time"

// patience is how long what is seen must last before it is believed.
type patience struct {
	burst  time.Duration // after a file was renamed into place, further renames of the same change are waited for so long
	settle time.Duration // a file must not have changed for so long
	unsure time.Duration // the same, where the file system cannot tell whether somebody has it open for writing
	writer time.Duration // the same, while somebody has it open for writing
	doubt  time.Duration // a name must be missing for so long, and its directories unchanged
	hold   time.Duration // a set waits so long for a file that is being written
	busy   time.Duration // and so long, all in all, for files and directories that do not come to rest
}

// A file that was renamed into place is complete, so it need not rest: only others that belong to the same change are waited for.
// A program that writes a file in place holds it open meanwhile, and one that appends twice opens it again after a
// millisecond. An editor or a copy tool leaves some milliseconds between the old file and the new one, a script that swaps two
// directories not many more; half a second is as long as a person hardly notices that an unbound container still runs.
// Who holds a file open for writing and writes nothing for 10 s does not mean to (a stalled scp goes on within them).
var usualPatience = patience{
	burst:  time.Millisecond,
	settle: 20 * time.Millisecond,
	unsure: 100 * time.Millisecond,
	writer: 10 * time.Second,
	doubt:  500 * time.Millisecond,
	hold:   time.Second,
	busy:   10 * time.Second,
}
