package worker

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// Of one kind of line, floodLines are logged in each floodPeriod; the others are counted.
const (
	floodLines  = 10
	floodPeriod = time.Second
)

// Floods bounds how often lines of one kind are logged: what strikes thousands of messages at once needs no thousands of lines. It
// counts the lines that it leaves out, and logs the count when the second is over. Where the log has debug lines nothing is left
// out. It is safe for concurrent use. There are as many kinds as pages and codes of Facebook's, so none is dropped.
type Floods struct {
	log *zap.Logger

	mu    sync.Mutex
	kinds map[LineKind]*flood
}

// LineKind is what lines have in common that are counted together.
type LineKind struct {
	Event string
	Page  string // empty where the log names the page
	Class string // why, as a keyword
	Code  int
}

// flood is one kind's second.
type flood struct {
	began           time.Time
	logged, leftOut int
}

// NewFloods returns one that logs to log what it leaves out.
func NewFloods(log *zap.Logger) *Floods { return &Floods{log: log, kinds: map[LineKind]*flood{}} }

// Allow reports whether a line may be logged now, and counts it.
func (f *Floods) Allow(kind LineKind) bool {
	if f.log.Core().Enabled(zap.DebugLevel) {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	of, now := f.kinds[kind], time.Now()
	if of == nil {
		of = &flood{}
		f.kinds[kind] = of
	}
	if of.leftOut == 0 && now.Sub(of.began) >= floodPeriod {
		of.began, of.logged = now, 0
	}
	if of.logged < floodLines {
		of.logged++
		return true
	}
	if of.leftOut == 0 {
		time.AfterFunc(of.began.Add(floodPeriod).Sub(now), func() { f.end(kind) })
	}
	of.leftOut++
	return false
}

// Flush logs the counts that are not logged yet. It is called when nothing is to be logged any more.
func (f *Floods) Flush() {
	f.mu.Lock()
	kinds := make([]LineKind, 0, len(f.kinds))
	for kind := range f.kinds {
		kinds = append(kinds, kind)
	}
	f.mu.Unlock()
	for _, kind := range kinds {
		f.end(kind)
	}
}

// end logs how many lines were left out, if any, and begins a new second.
func (f *Floods) end(kind LineKind) {
	f.mu.Lock()
	of := f.kinds[kind]
	leftOut := of.leftOut
	if leftOut > 0 {
		of.began, of.logged, of.leftOut = time.Now(), 0, 0
	}
	f.mu.Unlock()
	if leftOut == 0 {
		return
	}
	fields := []zap.Field{zap.String("event", "left_out"), zap.String("of", kind.Event), zap.Int("count", leftOut)}
	if kind.Page != "" {
		fields = append(fields, zap.String("page", kind.Page))
	}
	f.log.Warn("lines left out", append(fields, zap.String("class", kind.Class), zap.Int("code", kind.Code))...)
}
