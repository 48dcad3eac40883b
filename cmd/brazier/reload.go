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

// pageFile hands other pages to the parts when the page file has changed. One with a fault is not taken, and the pages
// stay as they are. read is what the role reads it with.
func (h *house) pageFile(path string, read func(string) ([]pageConfig, error)) part {
	var last []byte
	return part{
		name: "page file",
		open: func(context.Context) error {
			last, _ = os.ReadFile(path) // if it cannot be read now, any that can be is another
			return nil
		},
		run: func(ctx context.Context) error {
			every := time.NewTicker(reloadEvery)
			defer every.Stop()
			for {
				select {
				case <-every.C:
				case <-ctx.Done():
					return nil
				}
				source, err := os.ReadFile(path)
				if err != nil || bytes.Equal(source, last) { // it may be about to be replaced
					continue
				}
				last = source
				h.reload(read(path))
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
