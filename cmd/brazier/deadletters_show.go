package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/brazier-relay/brazier/queue"
)

type showLetter struct {
	ID    string `arg:"" name:"id" help:"Id of the message, as logs and the door's answer have it. The first id of a replayed message finds its later ones."`
	Body  bool   `name:"body" env:"-" help:"Print the message itself too. It holds personal data: the recipient's id and the text."`
	JSON  bool   `name:"json" env:"-" help:"One JSON object per line."`
	Pages string `name:"pages" default:"pages.yaml" type:"path" group:"pages" help:"YAML file with the names of the pages. Not needed: ids do too."`
	accessFlags
}

func (c showLetter) Run(ctx context.Context, std stdio) error {
	filter, names, err := letterFlags{Pages: c.Pages}.filter([]string{c.ID})
	if err != nil {
		return err
	}
	q, done, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	n := 0
	for l, err := range q.Letters(ctx, filter, false) {
		if err == nil && c.Body {
			l, err = q.Letter(ctx, l.Seq)
		}
		if err != nil {
			return err
		}
		if n++; n > 1 && !c.JSON {
			fmt.Fprintln(std.out)
		}
		if err := c.print(std.out, &l, names); err != nil {
			return err
		}
	}
	if n == 0 {
		return fmt.Errorf("no dead letter of %s: it was delivered, is in the queue, was discarded, or became too old", printable(c.ID))
	}
	return nil
}

func (c showLetter) print(w io.Writer, l *queue.Letter, names pageNames) error {
	v := newLetterView(l, names)
	if c.JSON {
		v.Body = body(l.Body)
		return json.NewEncoder(w).Encode(v)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, printable(value))
		}
	}
	page := v.Page
	if v.PageName != v.Page {
		page = v.PageName + " (" + v.Page + ")"
	}
	row("id", v.ID)
	row("page", page)
	row("lane", string(v.Lane))
	row("died", seconds3339(v.Died))
	row("class", v.Class)
	row("code", v.code())
	row("trace id", v.TraceID)
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
	row("letter", fmt.Sprint(v.Seq))
	for _, d := range v.Deaths {
		row("replayed", fmt.Sprintf("%s; as %s it died %s: %s %s, %d attempts", seconds3339(d.Replayed), d.ID, seconds3339(d.Died), d.Class, codes(d.Code, d.Subcode), d.Attempts))
	}
	if !c.Body {
		row("body", fmt.Sprintf("%d bytes, with personal data: --body prints it", v.Bytes))
		return t.Flush()
	}
	row("body", fmt.Sprintf("%d bytes", v.Bytes))
	if err := t.Flush(); err != nil {
		return err
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
