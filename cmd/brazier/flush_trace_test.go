package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// flushTrace follows what a role wrote and flushed, in a trace of strace's (-f -y, strings whole), and finds promises that
// went out before the flush they stand on.
//
// A message has to survive in the block files of the stream BRAZIER_JOBS: as two messages there, the job and the record of
// its id. nats-server 2.15.2 first stages a batch in a store of its own under batches/, flushes that, writes the messages
// to the stream's block, flushes that, removes the staged copy, and answers. A power cut between the first write to the
// block and its flush leaves a part of the batch there, and it is the staged copy that completes it when the server
// starts (jetstream.go, "partial batch write"). So three things are asked for:
//
//   - the staged copy is flushed before the first of it goes to the stream's block;
//   - both messages are flushed in the stream's block before the door begins to write its 202, or the block has been
//     written anew with them: to another file, opened with O_SYNC, renamed, and its directory flushed (filestore.go,
//     writeAtomicallyWithTemp), which is how the server throws out what was removed;
//   - a job's claim is flushed before the job is logged as delivered, and so is its removal from the stream. The second
//     is counted and not demanded: while the server commits a batch it puts off every flush of the stream to the batch's
//     end (stream.go, coalesceSync), and confirms a removal that falls into those milliseconds before it is flushed.
//     After a power cut just then the job comes back, and the claim tells that it is in doubt.
//
// The directory is not asked for: the server does not flush it for a new block, and ext4, XFS and btrfs write the name of
// a new file when they flush the file.
//
// A flush counts for what was written before it began, once it has returned. A thread's system calls stand in the trace
// in the order in which they happened, and across threads a call is seen before what it causes.
type flushTrace struct {
	unflushed map[string][]*bool // by file: what was written and not flushed yet
	flushing  map[string]flush   // by thread: begun and not finished
	writing   map[string]string  // by thread: the beginning of a write's line
	rewritten map[string][]*bool // by directory: what is in a block that was written anew and renamed there

	jobs     map[string]*tracedJob // by id
	claimed  map[string]*bool      // by id: whether its claim is flushed
	deleted  map[uint64]*bool      // by sequence: whether its removal is flushed
	figures  flushFigures
	problems []string
}

type tracedJob struct {
	staged, stored, recorded *bool // flushed? nil: not even written
	sequence                 uint64
}

// flush is one that is under way, for what had been written to its file when it began.
type flush struct {
	file  string
	marks []*bool
}

type flushFigures struct {
	accepted, delivered     int // answers 202; delivered lines
	blocks, flushes         int // of the stream
	early, lost             int // answered before the flush; answered and never written
	unstaged                int // stored before the staged copy's flush
	unclaimed, settledEarly int // delivered before the flush of the claim, of the removal
}

func (f flushFigures) String() string {
	return fmt.Sprintf("%d answers 202 on %d flushes of %d blocks: %d before their flush, %d never written, %d stored before their staged copy was flushed; %d delivered: %d before their claim was flushed, %d before their removal was",
		f.accepted, f.flushes, f.blocks, f.early, f.lost, f.unstaged, f.delivered, f.unclaimed, f.settledEarly)
}

func newFlushTrace() *flushTrace {
	return &flushTrace{unflushed: map[string][]*bool{}, flushing: map[string]flush{}, writing: map[string]string{}, rewritten: map[string][]*bool{},
		jobs: map[string]*tracedJob{}, claimed: map[string]*bool{}, deleted: map[uint64]*bool{}}
}

var (
	traceLine = regexp.MustCompile(`^(\d+) +(?:(\w+)\((\d+)<([^>]*)>|<\.\.\. (\w+) resumed>)(.*)$`)
	// A block that is written anew: the open with O_SYNC tells its directory and its number.
	rewrittenBlock = regexp.MustCompile(`^\d+ +openat\([^"]*"([^"]*/BRAZIER_JOBS/msgs)/(\d+)\.new", [A-Z_|]*O_SYNC`)
	traceResult    = regexp.MustCompile(`\) += (-?\d+)[^"]*$`)
	acceptedBody   = regexp.MustCompile(`^HTTP/1\.1 202 (?s:.*)"id":"([0-9A-V]+)","status":"([a-z]+)"`)
	deliveredLog   = regexp.MustCompile(`"id":"([0-9A-V]+)".*"event":"delivered"`)
	storedJob      = regexp.MustCompile(`\r\nBrazier-Id: ([0-9A-V]+)\r\n`)
	storedClaim    = regexp.MustCompile(`"j":\[([^\]]*)\]`)
	storedKey      = regexp.MustCompile(`^brazier\.keys\.\d+\.([0-9A-V]+)$`)
)

// read takes a whole trace.
func (ft *flushTrace) read(trace io.Reader) error {
	lines := bufio.NewReader(trace)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
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
	if blockOf(f.file) == jobsBlock {
		ft.figures.flushes++
	}
	for _, mark := range f.marks {
		*mark = true
	}
	ft.unflushed[f.file] = slices.DeleteFunc(slices.Clone(ft.unflushed[f.file]), func(mark *bool) bool { return *mark })
}

// The block files that matter.
const (
	jobsBlock   = "/BRAZIER_JOBS/msgs/"
	claimsBlock = "/BRAZIER_CLAIMS/msgs/"
	stagedBlock = "/BRAZIER_JOBS/batches/"
)

// blockOf returns which kind of block file it is, "" for any other file.
func blockOf(file string) string {
	for _, kind := range []string{jobsBlock, claimsBlock, stagedBlock} {
		if strings.Contains(file, kind) && strings.HasSuffix(file, ".blk") {
			return kind
		}
	}
	return ""
}

// promise judges a write at its beginning: an answer, or lines of log.
func (ft *flushTrace) promise(file, data string) {
	if m := acceptedBody.FindStringSubmatch(data); m != nil && strings.HasPrefix(file, "socket:") {
		ft.answered(m[1], m[2])
		return
	}
	if blockOf(file) != "" {
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
	switch job := ft.jobs[id]; {
	case job == nil || job.stored == nil || job.recorded == nil:
		ft.figures.lost++
		ft.problem("202 %s for %s, which was not written", status, id)
	case !*job.stored || !*job.recorded:
		ft.figures.early++
		ft.problem("202 %s for %s before its flush", status, id)
	}
}

func (ft *flushTrace) delivered(id string) {
	ft.figures.delivered++
	var sequence uint64
	if job := ft.jobs[id]; job != nil {
		sequence = job.sequence
	}
	if claim := ft.claimed[id]; claim == nil || !*claim {
		ft.figures.unclaimed++
		ft.problem("%s delivered before its claim was flushed", id)
	}
	if removal := ft.deleted[sequence]; removal == nil || !*removal {
		ft.figures.settledEarly++ // see above; no problem
	}
}

func (ft *flushTrace) problem(format string, args ...any) {
	ft.problems = append(ft.problems, fmt.Sprintf(format, args...))
}

// written notes what is in a block file now.
func (ft *flushTrace) written(thread, rest string) {
	file, data, _ := strings.Cut(ft.writing[thread], "\x00")
	delete(ft.writing, thread)
	kind := blockOf(file)
	if kind == "" {
		return
	}
	if r := traceResult.FindStringSubmatch(rest); r == nil || r[1] != strconv.Itoa(len(data)) {
		ft.problem("a write of %d bytes ended with %q", len(data), rest)
		return
	}
	if _, known := ft.unflushed[file]; !known && kind == jobsBlock {
		ft.figures.blocks++
	}
	flushed := new(bool)
	ft.unflushed[file] = append(ft.unflushed[file], flushed)
	for _, rec := range records(data) {
		switch kind {
		case claimsBlock:
			for _, claim := range storedClaim.FindAllStringSubmatch(rec.body, -1) {
				for id := range strings.SplitSeq(claim[1], ",") {
					ft.claimed[strings.Trim(id, `"`)] = flushed
				}
			}
		default:
			ft.stored(kind, rec, flushed)
		}
	}
}

// stored notes a message of the stream, or the staged copy of one.
func (ft *flushTrace) stored(kind string, rec blockRecord, flushed *bool) {
	if rec.removal && kind == jobsBlock {
		ft.deleted[rec.sequence] = flushed
		return
	}
	isJob := true
	m := storedJob.FindStringSubmatch(rec.header)
	if m == nil {
		isJob = false
		if m = storedKey.FindStringSubmatch(rec.subject); m == nil {
			return
		}
	}
	job := ft.jobs[m[1]]
	if job == nil {
		job = &tracedJob{}
		ft.jobs[m[1]] = job
	}
	if kind == stagedBlock {
		job.staged = flushed
		return
	}
	if job.staged == nil || !*job.staged {
		ft.figures.unstaged++
		ft.problem("%s was stored before its staged copy was flushed", m[1])
	}
	if isJob {
		job.stored, job.sequence = flushed, rec.sequence
	} else {
		job.recorded = flushed
	}
}

// blockRecord is one record of a block file.
type blockRecord struct {
	sequence              uint64
	removal               bool
	subject, header, body string
}

// records reads what filestore.go (writeMsgRecordLocked) writes: length with a bit for a header, sequence with a bit for
// a removal, time, subject with its length, header with its length if there is one, body, checksum.
func records(data string) (found []blockRecord) {
	const hasHeader, isRemoval = 1 << 31, 1 << 62
	for b := []byte(data); len(b) >= 30; {
		word := binary.LittleEndian.Uint32(b)
		size := int(word &^ hasHeader)
		if size < 30 || size > len(b) {
			return found
		}
		rec := blockRecord{sequence: binary.LittleEndian.Uint64(b[4:])}
		rec.removal = rec.sequence&isRemoval != 0
		rec.sequence &^= isRemoval
		after := 22 + int(binary.LittleEndian.Uint16(b[20:]))
		rec.subject = string(b[22:after])
		if word&hasHeader != 0 {
			after += 4
			end := after + int(binary.LittleEndian.Uint32(b[after-4:]))
			rec.header, after = string(b[after:end]), end
		}
		rec.body = string(b[after : size-8])
		found = append(found, rec)
		b = b[size:]
	}
	return found
}

// unquoted returns the string among a call's arguments, as C writes it.
func unquoted(args string) string {
	_, s, ok := strings.Cut(args, `"`)
	if !ok {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String()
		case '\\':
			i++
			if s[i] < '0' || s[i] > '7' {
				b.WriteByte(unescaped(s[i]))
				continue
			}
			n := s[i] - '0'
			for range 2 {
				if s[i+1] < '0' || s[i+1] > '7' {
					break
				}
				i++
				n = n<<3 | (s[i] - '0')
			}
			b.WriteByte(n)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescaped(c byte) byte {
	const names, bytes = `abtnvfr`, "\a\b\t\n\v\f\r"
	if i := strings.IndexByte(names, c); i >= 0 {
		return bytes[i]
	}
	return c
}

// testRecordedTraces reads the trace of two messages that were posted, stored and delivered, and then the same with a
// line changed, left out or moved, as a server would leave it that breaks a promise.
func testRecordedTraces(t *testing.T) {
	recorded := strings.Split(strings.TrimSpace(read(t, "testdata/flush/always.strace")), "\n")
	without := func(n int) []string { return slices.Delete(slices.Clone(recorded), n-1, n) }
	moved := func(from, to int) []string { return slices.Insert(without(from), to-1, recorded[from-1]) }
	changed := func(n int, old, new string) []string {
		lines := slices.Clone(recorded)
		lines[n-1] = strings.Replace(lines[n-1], old, new, 1)
		return lines
	}
	kept := flushFigures{accepted: 2, blocks: 1, flushes: 4, delivered: 2}
	with := func(change func(*flushFigures)) flushFigures { f := kept; change(&f); return f }
	late := func(f *flushFigures) { f.early, f.flushes = 1, 3 }
	// What the lines are: 3-6 and 14-17 store the two messages and answer, 7-10 and 18-19 claim them, 20-22 and 23-25
	// settle them.
	for _, tt := range []struct {
		name  string
		lines []string
		want  flushFigures
	}{
		{"as recorded", recorded, kept},
		{"not flushed until the next one's flush", without(5), with(late)},
		{"flushed after the answer", moved(16, 17), with(func(f *flushFigures) { f.early = 1 })},
		{"flush failed", changed(16, "= 0", "= -1 EIO (Input/output error)"), with(late)},
		{"flush not finished", changed(16, ") = 0", " <unfinished ...>"), with(late)},
		{"another file flushed", changed(16, "msgs/1.blk", "msgs/2.blk"), with(func(f *flushFigures) { f.early = 1 })},
		{"job written while the flush runs", slices.Concat(recorded[:14], changed(16, ") = 0", " <unfinished ...>")[15:16],
			changed(15, "30230", "30231")[14:15], []string{"30230 <... fsync resumed>) = 0"}, recorded[16:]),
			with(func(f *flushFigures) { f.early = 1 })},
		{"job only staged", without(15), with(func(f *flushFigures) { f.lost, f.settledEarly = 1, 1 })},
		{"id not stored", without(14), with(func(f *flushFigures) { f.lost = 1 })},
		{"staged copy not flushed", without(2), with(func(f *flushFigures) { f.unstaged = 2 })},
		{"not staged", without(1), with(func(f *flushFigures) { f.unstaged = 2 })},
		{"claim not flushed", without(19), with(func(f *flushFigures) { f.unclaimed = 1 })},
		{"not claimed", without(18), with(func(f *flushFigures) { f.unclaimed = 1 })},
		{"removal not flushed", without(21), with(func(f *flushFigures) { f.settledEarly, f.flushes = 1, 3 })},
		{"removal not written", without(23), with(func(f *flushFigures) { f.settledEarly = 1 })},
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
