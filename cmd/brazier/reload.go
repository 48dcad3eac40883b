package main

import (
	"bytes"
	"context"
	"os"
	"time"

	"go.uber.org/zap"
)

// reloadEvery is how often the page file is looked at. It is read whole: where a file is mounted from elsewhere, its time
// of change says little.
const reloadEvery = 2 * time.Second

// pageFile is the page file of a role.
type pageFile struct {
	path  string
	parse func(path string) ([]pageConfig, error)
	last  []byte // what was in it when it was last read
}

// read returns the pages that are in the file now.
func (f *pageFile) read() ([]pageConfig, error) {
	// Before it is parsed: what is written in between is found to be another file at the next look. If it cannot be read
	// now, any that can be is another.
	f.last, _ = os.ReadFile(f.path)
	return f.parse(f.path)
}

// changed reports whether the file is another than the one that was last read. It may be about to be replaced.
func (f *pageFile) changed() bool {
	source, err := os.ReadFile(f.path)
	return err == nil && !bytes.Equal(source, f.last)
}

// pageFile hands other pages to the parts when the page file has changed, and all files again to who reads them after
// SIGHUP. A page file with a fault is not taken, and the pages stay as they are.
func (h *house) pageFile(file *pageFile) part {
	return part{
		name: "page file",
		run: func(ctx context.Context) error {
			every := time.NewTicker(reloadEvery)
			defer every.Stop()
			for {
				select {
				case <-every.C:
					if file.changed() {
						h.reload(file.read())
					}
				case <-h.hangups:
					for _, again := range h.onHangup {
						again()
					}
					h.reload(file.read()) // tokens too, which have files of their own
				case <-ctx.Done():
					return nil
				}
			}
		},
	}
}

func (h *house) reload(pages []pageConfig, err error) {
	log := component(h.log, "pages")
	for _, take := range h.onPages {
		if err == nil {
			err = take(pages)
		}
	}
	if err != nil {
		log.Error("page file not taken, the pages stay as they were", zap.String("event", "pages_error"), zap.Error(err))
		return
	}
	log.Info("page file taken", zap.String("event", "pages"), zap.Int("pages", len(pages)))
}
