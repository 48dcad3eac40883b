package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
)

// pageFile is the page file of a role.
type pageFile struct {
	path    string
	options pagefile.Options
	taken   []byte // what was in it when it was last read; nil: it could not be read
}

// read returns the pages that are in the file now.
func (f *pageFile) read() ([]pagefile.Page, error) {
	// Before it is parsed: what is written in between is found to be another file once it is followed.
	f.taken, _ = os.ReadFile(f.path)
	return pagefile.Read(f.path, f.options)
}

// pageFile gives other pages to the parts when the page file has changed or SIGHUP has come. A page file with a fault is
// not taken, and the pages stay as they are.
func (p *Process) pageFile(file *pageFile) Part {
	return Part{
		Name: "page file",
		Run: func(ctx context.Context) error {
			changed := make(chan struct{}, 1)
			followed := p.files.follow(file.path, changed)
			defer p.files.release(followed)
			missing := false // the log says so
			for {
				select {
				case <-changed:
					source, err := followed.last()
					if err != nil && !missing { // it may be about to be replaced
						missing = p.stillMissing(ctx, followed)
					} else if err == nil && (missing || !bytes.Equal(source, file.taken)) {
						p.take(file, source)
						missing = false
					}
				case <-p.hangups:
					p.files.readAll()
					fresh(followed)
					if source, err := followed.last(); err == nil {
						p.take(file, source) // tokens too, whose files are read anew
						missing = false
					} else if missing = true; ctx.Err() == nil {
						p.refuse(fmt.Errorf("page file: %w", err))
					}
				case <-ctx.Done():
					return nil
				}
			}
		},
	}
}

// stillMissing looks again after a while whether a file can be read, and says so if not.
func (p *Process) stillMissing(ctx context.Context, followed *file) bool {
	select {
	case <-time.After(readEvery):
	case <-ctx.Done():
		return false
	}
	fresh(followed)
	_, err := followed.last()
	if err != nil {
		p.refuse(fmt.Errorf("page file: %w", err))
	}
	return err != nil
}

func (p *Process) take(file *pageFile, source []byte) {
	file.taken = source
	pages, err := pagefile.Parse(file.path, source, file.options)
	for _, take := range p.onPages {
		if err == nil {
			err = take(pages)
		}
	}
	if err != nil {
		p.refuse(err)
		return
	}
	p.reloads.note(true)
	p.current.Store(&pages)
	cli.Component(p.log, "pages").Info("page file taken", zap.String("event", "pages"), zap.Int("pages", len(pages)))
}

func (p *Process) refuse(err error) {
	p.reloads.note(false)
	cli.Component(p.log, "pages").Error("page file not taken, the pages stay as they were", zap.String("event", "pages_error"), zap.Error(err))
}
