package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// readEvery is how old what is known of a file may be. A file is read whole: where it is mounted from elsewhere, its time
	// of change says little.
	readEvery = 2 * time.Second
	// readTimeout is how long one who needs the newest content waits for a file. A local disk takes microseconds; too long,
	// and a mount that hangs delays pages whose files are elsewhere.
	readTimeout = 2 * time.Second
	// hangsAfter is how long a read takes before the log says so.
	hangsAfter = 10 * time.Second
)

// files reads files again and again while roles run, each in a goroutine of its own: where a mount hangs, only what needs
// that file waits. Everything that changes without a restart comes from here: the page file, the files of tokens and app
// secrets, the certificate and its key.
//
//	goroutine per file:  read → content, error → (another than before?) → wake those who follow it
//	who uses a file:     takes what was last read, and never waits for a disk
type files struct {
	log  *zap.Logger
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	byPath map[string]*file
}

func newFiles(log *zap.Logger) *files {
	f := &files{log: log, byPath: map[string]*file{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// close ends the goroutines. It does not wait long for one whose read hangs: such a read ends with the process.
func (f *files) close() error {
	f.stop()
	ended := make(chan struct{})
	go func() { f.wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(readTimeout):
	}
	return nil
}

// follow returns the file of a path, which is read from now on until release is called as often as follow was. changed,
// which may be nil, has one element whenever a read had another outcome than the one before.
func (f *files) follow(path string, changed chan struct{}) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.byPath[path]
	if one == nil {
		ctx, stop := context.WithCancel(f.ctx)
		one = &file{path: path, log: f.log, stop: stop, wanted: make(chan struct{}, 1)}
		f.byPath[path] = one
		f.wg.Go(func() { one.readAgain(ctx) })
	}
	one.users++
	one.mu.Lock()
	defer one.mu.Unlock()
	if changed != nil {
		one.followers = append(one.followers, changed)
	}
	return one
}

// readAll has every file read soon.
func (f *files) readAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.byPath {
		one.readSoon()
	}
}

func (f *files) release(one *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.users--; one.users == 0 {
		one.stop()
		delete(f.byPath, one.path)
	}
}

// file is what is known of one file. It is safe for concurrent use, and its methods do not wait for a disk, but for fresh.
type file struct {
	path   string
	log    *zap.Logger
	stop   context.CancelFunc
	wanted chan struct{} // has one element when it is to be read at once
	users  int           // belongs to files.mu

	mu        sync.Mutex
	content   []byte
	err       error
	reads     int             // that have ended
	waiting   []chan struct{} // closed when a read has ended that began after they were added
	followers []chan struct{}
}

// readAgain reads until ctx ends.
func (f *file) readAgain(ctx context.Context) {
	every := time.NewTicker(readEvery)
	defer every.Stop()
	for {
		f.read()
		select {
		case <-every.C:
		case <-f.wanted:
		case <-ctx.Done():
			return
		}
	}
}

func (f *file) read() {
	f.mu.Lock()
	waiting := f.waiting
	f.waiting = nil
	select {
	case <-f.wanted: // this read is for those too
	default:
	}
	f.mu.Unlock()
	hangs := time.AfterFunc(hangsAfter, func() {
		f.log.Warn("a file takes long to read, what was read before is used", zap.String("event", "file_hangs"), zap.String("path", f.path),
			zap.Float64("for_s", hangsAfter.Seconds()))
	})
	content, err := os.ReadFile(f.path)
	hangs.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	other := f.reads == 0 || !bytes.Equal(content, f.content) || fmt.Sprint(err) != fmt.Sprint(f.err)
	f.content, f.err = content, err
	f.reads++
	for _, ended := range waiting {
		close(ended)
	}
	if !other {
		return
	}
	for _, changed := range f.followers {
		select {
		case changed <- struct{}{}:
		default: // it is to look already
		}
	}
}

// errUnread is the outcome of a file whose first read has not ended.
var errUnread = errors.New("it could not be read yet: does its disk or mount hang?")

// last returns the outcome of the last read, as os.ReadFile does. The caller does not change the content.
func (f *file) last() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reads == 0 {
		return nil, &os.PathError{Op: "read", Path: f.path, Err: errUnread}
	}
	return f.content, f.err
}

// fresh has these files read anew, and waits for that, but no longer than readTimeout for all of them together.
func fresh(all ...*file) {
	var reads []chan struct{}
	for _, f := range all {
		reads = append(reads, f.readSoon())
	}
	timeout := time.NewTimer(readTimeout)
	defer timeout.Stop()
	for _, ended := range reads {
		select {
		case <-ended:
		case <-timeout.C:
			return
		}
	}
}

// readSoon asks for a read, and returns what is closed when one has ended that began later than now.
func (f *file) readSoon() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	ended := make(chan struct{})
	f.waiting = append(f.waiting, ended)
	select {
	case f.wanted <- struct{}{}:
	default:
	}
	return ended
}
