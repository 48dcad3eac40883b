package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// flushTrace follows what brazier serve wrote and flushed, in a trace of strace's (-f -y, strings whole), and finds each
// answer, request and log line that went out before the flush that has to come first.
//
// A job is one message of the stream BRAZIER_JOBS, what became of it one of BRAZIER_RECORDS, each replacing the last (see
// queue/doc.go). Both have to be in the block files of their stream to survive a power cut. Four things are demanded:
//
//   - A job's message is flushed in a block of BRAZIER_JOBS before the HTTP server begins to write its 202. Or that block
//     was written anew with the message: to another file, opened with O_SYNC, renamed, and its directory flushed
//     (filestore.go, writeAtomicallyWithTemp), which is how the server throws out what was removed.
//   - The record that a job is begun is flushed in a block of BRAZIER_RECORDS, likewise, before the body of the request to
//     Facebook is written. After the record that the job waits, the next request needs another begun record. Otherwise a
//     power cut would leave a job that was sent and is not in doubt.
//   - The record that a job is done is flushed there before the job is logged as delivered.
//   - The staged copy of a batch is flushed as a whole before the first message of the batch goes to a block of the stream.
//     nats-server 2.15.2 stages an atomic batch in a store of its own under batches/, flushes that, writes the messages to
//     the stream's block, flushes that, removes the staged copy, and answers. A power cut between the first write to the
//     block and its flush leaves a part of the batch there, and it is the staged copy that completes it when the server
//     starts (jetstream.go, "partial batch write"). A message by itself has no staged copy.
//
// That a job's removal from BRAZIER_JOBS is flushed is counted and not demanded: after a power cut the job comes back, its
// record says that it is done, and it is removed again without being sent.
//
// The directory is not asked for: the server does not flush it for a new block, and ext4, XFS and btrfs write the name of
// a new file when they flush the file.
//
// A flush counts for what was written before it began, once it has returned. A thread's system calls stand in the trace
// in the order in which they happened, and across threads a call is seen before what it causes. The request to Facebook is
// told by its recipient, so each job in a trace has to be for a person of its own.
type flushTrace struct {
	unflushed map[string][]*bool // by file: what was written and not flushed yet
	flushing  map[string]flush   // by thread: begun and not finished
	writing   map[string]string  // by thread: the file and the data of a write that has begun
	rewritten map[string][]*bool // by directory: what is in a block that was written anew and renamed there

	jobs       map[string]*tracedJob   // by id
	recipients map[string]*tracedJob   // by PSID
	batches    map[string]*tracedBatch // by the id of the batch
	removals   []*bool                 // from BRAZIER_JOBS, of markers too: whether flushed
	figures    flushFigures
	problems   []string
}

// tracedJob says of a job's message and records whether they are flushed; nil: not even written. begun is that of the
// attempt under way.
type tracedJob struct {
	stored, begun, done *bool
}

// tracedBatch is the staged copy of a batch.
type tracedBatch struct {
	staged []*bool // what it was written by, and whether that is flushed
	whole  bool    // its last message was written
}

func (b *tracedBatch) flushed() bool {
	return b != nil && b.whole && !slices.ContainsFunc(b.staged, func(mark *bool) bool { return !*mark })
}

// flush is one that is under way, for what had been written to its file when it began.
type flush struct {
	file  string
	marks []*bool
}

type flushFigures struct {
	accepted, calls, delivered int // answers 202; requests to Facebook; delivered lines
	jobs, records              streamFigures
	early, lost                int // answered before the flush; answered and never written
	unstaged                   int // stored before the staged copy's flush
	unbegun                    int // sent before the flush of the record that it is begun
	unrecorded                 int // delivered before the flush of the record that it is done
	removed                    int // removals from BRAZIER_JOBS that were flushed by the end
}

// streamFigures counts a stream's blocks, the flushes of them, and the messages that were stored by themselves and in
// batches.
type streamFigures struct{ blocks, flushes, single, batched int }

func (f streamFigures) String() string {
	return fmt.Sprintf("%d by themselves and %d in batches, %d blocks, %d flushes", f.single, f.batched, f.blocks, f.flushes)
}

func (f flushFigures) String() string {
	return fmt.Sprintf("jobs: %v; records: %v; %d stored before their staged copy was flushed; "+
		"%d answers 202: %d before the job was flushed, %d without it; %d requests to Facebook: %d before the begun record was flushed; "+
		"%d delivered: %d before the done record was flushed; %d removals flushed",
		f.jobs, f.records, f.unstaged, f.accepted, f.early, f.lost, f.calls, f.unbegun, f.delivered, f.unrecorded, f.removed)
}

func newFlushTrace() *flushTrace {
	return &flushTrace{unflushed: map[string][]*bool{}, flushing: map[string]flush{}, writing: map[string]string{}, rewritten: map[string][]*bool{},
		jobs: map[string]*tracedJob{}, recipients: map[string]*tracedJob{}, batches: map[string]*tracedBatch{}}
}

var (
	traceLine   = regexp.MustCompile(`^(\d+) +(?:(\w+)\((\d+)<([^>]*)>|<\.\.\. (\w+) resumed>)(.*)$`)
	traceResult = regexp.MustCompile(`\) += (-?\d+)[^"]*$`)
	// A block that is written anew: the open with O_SYNC tells its directory and its number.
	rewrittenBlock = regexp.MustCompile(`^\d+ +openat\([^"]*"([^"]*/BRAZIER_(?:JOBS|RECORDS)/msgs)/(\d+)\.new", [A-Z_|]*O_SYNC`)
	blockFile      = regexp.MustCompile(`/BRAZIER_(JOBS|RECORDS)/(batches/[^/]+/)?msgs/\d+\.blk$`)
	acceptedBody   = regexp.MustCompile(`^HTTP/1\.1 202 (?s:.*)"id":"([0-9A-V]+)","status":"([a-z]+)"`)
	calledBody     = regexp.MustCompile(`^(?:POST (?s:.*)\r\n\r\n)?\{"recipient":\{"id":"(\d+)"\}`)
	deliveredLog   = regexp.MustCompile(`"id":"([0-9A-V]+)".*"event":"delivered"`)
	storedSubject  = regexp.MustCompile(`^brazier\.(?:jobs|records)\.\d+\.[a-z]+\.([0-9A-V]+)$`)
	storedBatch    = regexp.MustCompile(`\r\nNats-Batch-Id: (\S+)\r\n`)
	storedBody     = regexp.MustCompile(`^\{"recipient":\{"id":"(\d+)"\}`)
	storedState    = regexp.MustCompile(`^\{"state":"([a-z]+)"`)
)

// read takes a whole trace.
func (ft *flushTrace) read(trace io.Reader) error {
	lines := bufio.NewReader(trace)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			for _, mark := range ft.removals {
				if *mark {
					ft.figures.removed++
				}
			}
			return nil
		}
		if err != nil {
			return err
		}
		ft.line(strings.TrimSuffix(line, "\n"))
	}
}

func (ft *flushTrace) line(line string) {
	if m := rewrittenBlock.FindStringSubmatch(line); m != nil {
		// The server holds the block from before the open to after the flush of the directory.
		block := m[1] + "/" + m[2] + ".blk"
		ft.rewritten[m[1]] = append(ft.rewritten[m[1]], ft.unflushed[block]...)
		return
	}
	m := traceLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	thread, call, file, rest := m[1], m[2], m[4], m[6]
	resumed := m[5]
	unfinished := strings.HasSuffix(rest, "<unfinished ...>")
	switch {
	case call == "fsync" || call == "fdatasync":
		ft.flushing[thread] = flush{file, slices.Concat(ft.unflushed[file], ft.rewritten[file])}
		if !unfinished {
			ft.flushed(thread, rest)
		}
	case resumed == "fsync" || resumed == "fdatasync":
		ft.flushed(thread, rest)
	case call == "write" || call == "pwrite64":
		data := unquoted(rest)
		ft.promise(file, data)
		ft.writing[thread] = file + "\x00" + data
		if !unfinished {
			ft.written(thread, rest)
		}
	case resumed == "write" || resumed == "pwrite64":
		ft.written(thread, rest)
	}
}

func (ft *flushTrace) flushed(thread, rest string) {
	f := ft.flushing[thread]
	delete(ft.flushing, thread)
	if r := traceResult.FindStringSubmatch(rest); r == nil || r[1] != "0" {
		return
	}
	if stream, staged, ok := ft.blockOf(f.file); ok && !staged {
		stream.flushes++
	}
	for _, mark := range f.marks {
		*mark = true
	}
	for _, left := range []map[string][]*bool{ft.unflushed, ft.rewritten} {
		if _, known := left[f.file]; known {
			left[f.file] = slices.DeleteFunc(left[f.file], func(mark *bool) bool { return *mark })
		}
	}
}

// blockOf returns of which stream a block file is, and whether it is one of the staged copy of a batch.
func (ft *flushTrace) blockOf(file string) (of *streamFigures, staged, ok bool) {
	m := blockFile.FindStringSubmatch(file)
	if m == nil {
		return nil, false, false
	}
	of = &ft.figures.jobs
	if m[1] == "RECORDS" {
		of = &ft.figures.records
	}
	return of, m[2] != "", true
}

// promise judges a write at its beginning: an answer, a request to Facebook, or lines of log.
func (ft *flushTrace) promise(file, data string) {
	if _, _, ok := ft.blockOf(file); ok {
		return
	}
	if strings.HasPrefix(file, "socket:") {
		if m := acceptedBody.FindStringSubmatch(data); m != nil {
			ft.answered(m[1], m[2])
		}
		if m := calledBody.FindStringSubmatch(data); m != nil {
			ft.called(m[1])
		}
		return
	}
	for line := range strings.Lines(data) {
		if m := deliveredLog.FindStringSubmatch(line); m != nil {
			ft.delivered(m[1])
		}
	}
}

func (ft *flushTrace) answered(id, status string) {
	ft.figures.accepted++
	switch stored := ft.job(id).stored; {
	case stored == nil:
		ft.figures.lost++
		ft.problem("202 %s for %s, which was not written", status, id)
	case !*stored:
		ft.figures.early++
		ft.problem("202 %s for %s before its flush", status, id)
	}
}

func (ft *flushTrace) called(psid string) {
	ft.figures.calls++
	if job := ft.recipients[psid]; job == nil || !isFlushed(job.begun) {
		ft.figures.unbegun++
		ft.problem("the message to %s was sent before the flush of the record that it is begun", psid)
	}
}

func (ft *flushTrace) delivered(id string) {
	ft.figures.delivered++
	if !isFlushed(ft.job(id).done) {
		ft.figures.unrecorded++
		ft.problem("%s delivered before the flush of the record that it is done", id)
	}
}

func isFlushed(mark *bool) bool { return mark != nil && *mark }

func (ft *flushTrace) job(id string) *tracedJob {
	if ft.jobs[id] == nil {
		ft.jobs[id] = &tracedJob{}
	}
	return ft.jobs[id]
}

func (ft *flushTrace) problem(format string, args ...any) {
	ft.problems = append(ft.problems, fmt.Sprintf(format, args...))
}

// written notes what is in a block file now.
func (ft *flushTrace) written(thread, rest string) {
	file, data, _ := strings.Cut(ft.writing[thread], "\x00")
	delete(ft.writing, thread)
	stream, staged, ok := ft.blockOf(file)
	if !ok {
		return
	}
	if r := traceResult.FindStringSubmatch(rest); r == nil || r[1] != strconv.Itoa(len(data)) {
		ft.problem("a write of %d bytes ended with %q", len(data), rest)
		return
	}
	if _, known := ft.unflushed[file]; !known && !staged {
		stream.blocks++
	}
	mark := new(bool)
	ft.unflushed[file] = append(ft.unflushed[file], mark)
	for _, rec := range records(data) {
		switch {
		case staged:
			ft.staged(rec, mark)
		case rec.removal && stream == &ft.figures.jobs:
			ft.removals = append(ft.removals, mark)
		case !rec.removal:
			ft.stored(stream, rec, mark)
		}
	}
}

// staged notes a message of the staged copy of a batch.
func (ft *flushTrace) staged(rec blockRecord, mark *bool) {
	m := storedBatch.FindStringSubmatch(rec.header)
	if m == nil {
		return
	}
	batch := ft.batches[m[1]]
	if batch == nil {
		batch = &tracedBatch{}
		ft.batches[m[1]] = batch
	}
	batch.staged = append(batch.staged, mark)
	batch.whole = batch.whole || strings.Contains(rec.header, "\r\nNats-Batch-Commit: ")
}

// stored notes a message of a stream. The marker of a lane is neither a job nor a record: no promise depends on it.
func (ft *flushTrace) stored(stream *streamFigures, rec blockRecord, mark *bool) {
	m := storedSubject.FindStringSubmatch(rec.subject)
	if m == nil {
		return
	}
	stream.single++
	if of := storedBatch.FindStringSubmatch(rec.header); of != nil {
		stream.single--
		stream.batched++
		if !ft.batches[of[1]].flushed() {
			ft.figures.unstaged++
			ft.problem("%s was stored before the staged copy of its batch was flushed", rec.subject)
		}
	}
	job := ft.job(m[1])
	if stream == &ft.figures.jobs {
		job.stored = mark
		if to := storedBody.FindStringSubmatch(rec.body); to != nil {
			ft.recipients[to[1]] = job
		}
		return
	}
	var state string
	if is := storedState.FindStringSubmatch(rec.body); is != nil {
		state = is[1]
	}
	switch state {
	case "begun":
		if !isFlushed(job.begun) { // else it is a renewal
			job.begun = mark
		}
	case "waiting":
		job.begun = nil
	case "done":
		job.begun, job.done = nil, mark
	default:
		ft.problem("the record of %s says %.40q", m[1], rec.body)
	}
}
