package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
)

type showDeadLetter struct {
	ID    string `arg:"" name:"id" help:"Id of the message, from the log or the ingress's answer. The first id of a replayed message also finds its replays."`
	Body  bool   `name:"body" env:"-" help:"Also print the message. It contains personal data: the recipient's id and the text."`
	JSON  bool   `name:"json" env:"-" help:"Print one JSON object per line."`
	Pages string `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"Page file, to name pages. Without it pages are named by id."`
	accessFlags
}

func (c showDeadLetter) Run(ctx context.Context, std cli.Stdio) error {
	filter, names, err := deadLetterFlags{Pages: c.Pages}.filter([]string{c.ID})
	if err != nil {
		return err
	}
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	n := 0
	for l, err := range q.DeadLetters(ctx, filter, false) {
		if err == nil && c.Body {
			l, err = q.DeadLetter(ctx, l.Seq)
		}
		if err != nil {
			return err
		}
		if n++; n > 1 && !c.JSON {
			fmt.Fprintln(std.Out)
		}
		if err := c.print(std.Out, &l, names); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("no dead letter has the id %s: the message was delivered, is queued, was discarded, or is too old", printable(c.ID))
	}
	return nil
}

func (c showDeadLetter) print(w io.Writer, l *queue.DeadLetter, names pageNames) error {
	v := newDeadLetter(l, names)
	if c.JSON {
		v.Body = body(l.Body)
		return json.NewEncoder(w).Encode(v)
	}
	t, row := newRows(w)
	row("id", v.ID)
	row("page", pageTitle(v.PageName, v.Page))
	row("lane", string(v.Lane))
	row("died", seconds3339(v.Died))
	row("class", v.Class)
	row("code", v.code())
	row("fbtrace id", v.FBTraceID)
	row("attempts", fmt.Sprint(v.Attempts))
	row("reason", v.Reason)
	row("recipient", v.Recipient)
	row("campaign", v.Campaign)
	row("canvas", v.Canvas)
	row("dispatch", v.Dispatch)
	row("message", v.Message)
	row("user", v.User)
	row("external id", v.ExternalID)
	row("idempotency key", v.Key)
	row("accepted", seconds3339(v.Accepted))
	if v.Expire != nil {
		row("expires", seconds3339(*v.Expire))
	}
	row("sequence", fmt.Sprint(v.Seq))
	for _, d := range v.Deaths {
		row("replayed", fmt.Sprintf("%s; as %s it died %s: %s %s, %d attempts", seconds3339(d.Replayed), d.ID, seconds3339(d.Died), d.Class, codes(d.Code, d.Subcode), d.Attempts))
	}
	if !c.Body {
		row("body", fmt.Sprintf("%d bytes with personal data; --body prints it", v.Bytes))
	} else {
		row("body", fmt.Sprintf("%d bytes", v.Bytes))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printTries(w, v.Tries, v.LeftOut)
	if !c.Body {
		return nil
	}
	_, err := fmt.Fprintln(w, pretty(l.Body))
	return err
}

// body is JSON as it stands, or a JSON string of what is none.
func body(b []byte) json.RawMessage {
	if len(b) > 0 && !json.Valid(b) {
		b, _ = json.Marshal(string(b)) // cannot fail: a string
	}
	return b
}

// pretty indents JSON, and leaves out what could move the cursor.
func pretty(b []byte) string {
	var indented bytes.Buffer
	if json.Indent(&indented, b, "  ", "  ") != nil {
		indented.Reset()
		indented.Write(b)
	}
	lines := strings.Split(indented.String(), "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return "  " + strings.Join(lines, "\n")
}
