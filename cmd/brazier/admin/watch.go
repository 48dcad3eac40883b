package admin

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// watchEvery is the time between two looks: longer than it takes until what was counted is written.
const watchEvery = 2 * time.Second

// watch shows what look prints, again and again, until ctx ends or nobody sees it any more. lines says that programs read it: each look
// then is a line after those before.
func watch(ctx context.Context, std cli.Stdio, lines bool, look func(context.Context, io.Writer) error) error {
	screen := cli.NewScreen(std.Out)
	ctx, leave := screen.Attended(ctx, std.Signals)
	defer leave()
	next := time.NewTicker(watchEvery)
	defer next.Stop()
	for {
		var text bytes.Buffer
		err := look(ctx, &text)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		screen.Page(text.String(), lines)
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
	}
}
