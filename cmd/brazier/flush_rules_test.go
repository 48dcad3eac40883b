package main

import (
	"slices"
	"strings"
	"testing"
)

// testRecordedTraces reads the trace of three messages that were posted, stored and delivered, and then the same with a
// line changed, left out or moved, as a server or a worker would leave it that breaks a promise.
func testRecordedTraces(t *testing.T) {
	recorded := strings.Split(strings.TrimSpace(read(t, "testdata/flush/always.strace")), "\n")
	without := func(n int) []string { return slices.Delete(slices.Clone(recorded), n-1, n) }
	before := func(n int, more ...string) []string { return slices.Insert(slices.Clone(recorded), n-1, more...) }
	moved := func(from, to int) []string { return slices.Insert(without(from), to-1, recorded[from-1]) }
	changed := func(n int, old, new string) []string {
		lines := slices.Clone(recorded)
		lines[n-1] = strings.Replace(lines[n-1], old, new, 1)
		if lines[n-1] == recorded[n-1] {
			t.Fatalf("line %d has no %q", n, old)
		}
		return lines
	}
	const jobsDirectory = "/data/jetstream/$G/streams/BRAZIER_JOBS/msgs"
	// Instead of the flush in line 2, the block is written anew.
	anew := func(flags, flushed string) []string {
		return slices.Replace(slices.Clone(recorded), 1, 2,
			`16496 openat(AT_FDCWD</>, "`+jobsDirectory+`/1.new", O_WRONLY|O_CREAT|O_TRUNC|`+flags+`O_CLOEXEC, 0600) = 19<`+jobsDirectory+`/1.new>`,
			"16496 fsync(19<"+flushed+">) = 0")
	}
	kept := flushFigures{accepted: 3, calls: 4, delivered: 3, removed: 3,
		jobs: streamFigures{blocks: 1, flushes: 5, single: 1, batched: 2}, records: streamFigures{blocks: 1, flushes: 6, single: 4, batched: 4}}
	with := func(change func(*flushFigures)) flushFigures { f := kept; change(&f); return f }
	early := with(func(f *flushFigures) { f.early = 1 })
	unflushed := with(func(f *flushFigures) { f.early, f.jobs.flushes = 1, 4 })
	unstaged := with(func(f *flushFigures) { f.unstaged = 2 })
	unbegun := with(func(f *flushFigures) { f.unbegun = 1 })
	// What the lines are:
	//
	//	1-3    the first message is stored by itself and answered
	//	4-8    it is begun, sent, and waits since Facebook answered with an error
	//	9-14   it is begun again, sent, done, and logged as delivered
	//	15-16  it is removed
	//	17-24  two messages are staged, stored as a batch, and answered
	//	25-32  both are begun, in a batch of records, and sent
	//	33-45  both are done, in a batch of records, logged as delivered, and removed
	for _, tt := range []struct {
		name  string
		lines []string
		want  flushFigures
	}{
		{"as recorded", recorded, kept},

		{"job not flushed until the next flush", without(2), unflushed},
		{"job flushed after the answer", moved(2, 3), early},
		{"flush of a job failed", changed(2, "= 0", "= -1 EIO (Input/output error)"), unflushed},
		{"flush of a job not finished", changed(2, ") = 0", " <unfinished ...>"), unflushed},
		{"another file flushed", changed(2, "msgs/1.blk", "msgs/2.blk"), early},
		{"job written while the flush runs", slices.Concat(changed(2, ") = 0", " <unfinished ...>")[1:2], changed(1, "16496", "16497")[:1],
			[]string{"16496 <... fsync resumed>) = 0"}, recorded[2:]), early},
		{"job not written", changed(1, ") = 502", ") = -1 ENOSPC (No space left on device)"),
			with(func(f *flushFigures) { f.lost, f.unbegun, f.jobs.single = 1, 2, 0 })},
		{"job only staged", without(19), with(func(f *flushFigures) { f.lost, f.unbegun, f.jobs.batched = 1, 1, 1 })},
		{"batch of jobs not flushed", without(21), with(func(f *flushFigures) { f.early, f.jobs.flushes = 2, 4 })},
		{"block written anew", anew("O_SYNC|", jobsDirectory), with(func(f *flushFigures) { f.jobs.flushes = 4 })},
		{"block written anew and not flushed", anew("", jobsDirectory), unflushed},
		{"block written anew in a directory that is not flushed", anew("O_SYNC|", "/data"), unflushed},

		{"staged copy not flushed", without(18), unstaged},
		{"staged copy flushed after the first was stored", moved(18, 19), with(func(f *flushFigures) { f.unstaged = 1 })},
		{"not staged", without(17), unstaged},
		{"not staged to the end", changed(17, "Nats-Batch-Commit", "Nats-Batch-Commix"), unstaged},
		{"staged copy of records not flushed", without(27), unstaged},

		{"begun record not written", without(4), with(func(f *flushFigures) { f.unbegun, f.records.single = 1, 3 })},
		{"begun record not flushed", without(5), with(func(f *flushFigures) { f.unbegun, f.records.flushes = 1, 5 })},
		{"begun record flushed while the request is under way", moved(5, 6), unbegun},
		{"not begun again", without(9), with(func(f *flushFigures) { f.unbegun, f.records.single = 1, 3 })},
		{"sent again after it was done", before(14, recorded[10]), with(func(f *flushFigures) { f.unbegun, f.calls = 1, 5 })},
		{"begun record renewed", before(6, recorded[3]), with(func(f *flushFigures) { f.records.single = 5 })},
		{"batch of begun records not flushed", without(30), with(func(f *flushFigures) { f.unbegun, f.records.flushes = 2, 5 })},
		{"sent to somebody else", changed(6, "3004005000000001", "3004005000000009"), unbegun},
		{"sent together with the header, not begun", slices.Delete(changed(6, `"{`, `"POST /v25.0/me/messages HTTP/1.1\r\n\r\n{`), 3, 4),
			with(func(f *flushFigures) { f.unbegun, f.records.single = 1, 3 })},

		{"done record not written", without(12), with(func(f *flushFigures) { f.unrecorded, f.records.single = 1, 3 })},
		{"done record flushed after the log", moved(13, 14), with(func(f *flushFigures) { f.unrecorded = 1 })},
		{"batch of done records not flushed", without(38), with(func(f *flushFigures) { f.unrecorded, f.records.flushes = 2, 5 })},

		{"removal not flushed", without(45), with(func(f *flushFigures) { f.removed, f.jobs.flushes = 2, 4 })},
		{"removal not written", without(15), with(func(f *flushFigures) { f.removed = 2 })},
	} {
		ft := newFlushTrace()
		if err := ft.read(strings.NewReader(strings.Join(tt.lines, "\n") + "\n")); err != nil {
			t.Fatal(err)
		}
		if ft.figures != tt.want {
			t.Errorf("%s: %v\nwant %v\n%s", tt.name, ft.figures, tt.want, strings.Join(ft.problems, "\n"))
		}
	}
}
