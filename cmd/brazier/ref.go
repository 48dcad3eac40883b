package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/sendapi/webhook"
)

type refCommand struct {
	New   newRefCommand   `cmd:"" help:"Make the reference and the m.me link that Liquid would make for a user."`
	Check checkRefCommand `cmd:"" help:"Say whether a page accepts a reference now, and for whom it was made."`
}

func (refCommand) Help() string {
	return "A reference in an m.me link says for which Braze user the link was made, and is signed with a secret of the page. These commands " +
		"are for tests and support; they read the page file and the files in ref_secret_files, and need neither NATS nor Facebook."
}

// refPage is the page whose references are meant.
type refPage struct {
	Page string `name:"page" env:"-" required:"" help:"The page: its id, or its name in the page file."`
	process.PagesFlags
}

// find returns the page with its secrets, the first of which signs.
func (f refPage) find() (pagefile.Page, [][]byte, error) {
	pages, err := pagefile.Read(f.Pages, pagefile.ForIngress())
	if err != nil {
		return pagefile.Page{}, nil, cli.Usage(err)
	}
	for _, p := range pages {
		if p.ID != f.Page && p.Name != f.Page {
			continue
		}
		if len(p.References.SecretFiles) == 0 {
			return p, nil, cli.Usagef("page %s has no ref_secret_files in %s, so it accepts no reference", p.Name, f.Pages)
		}
		secrets, err := pagefile.ReadSecrets("ref_secret_files", p.References.SecretFiles, os.ReadFile)
		if err != nil {
			return p, nil, cli.Usage(err)
		}
		return p, secrets, nil
	}
	return pagefile.Page{}, nil, cli.Usagef("--page: %q is neither an id nor a name in %s", f.Page, f.Pages)
}

type newRefCommand struct {
	User    string `arg:"" name:"user" help:"The user: a braze_id (24 hexadecimal digits) or an external id."`
	Form    string `name:"form" env:"-" enum:"b1,e1,x1," default:"" help:"How the reference names the user: b1 by braze_id, e1 by external id in base64url, x1 by external id as it is. Default: b1 for 24 hexadecimal digits, else e1."`
	Endless bool   `name:"endless" env:"-" help:"Make a reference that never expires, for links in print. The page accepts it with ref_endless only."`
	refPage
}

// Run writes two lines, so that scripts can take them apart.
func (c newRefCommand) Run(std cli.Stdio) error {
	page, secrets, err := c.find()
	if err != nil {
		return err
	}
	form, made := webhook.Form(c.Form), time.Now()
	if form == "" {
		form = webhook.FormEncoded
		if webhook.IsBrazeID(c.User) {
			form = webhook.FormBrazeID
		}
	}
	if c.Endless {
		made = time.Time{}
	}
	ref, err := webhook.NewRef(secrets[0], form, c.User, made)
	if err != nil {
		return cli.Usagef("user: %w", err)
	}
	if c.Endless && !page.References.Endless {
		fmt.Fprintf(std.Err, "brazier: page %s does not accept this reference: set ref_endless: true in %s\n", page.Name, c.Pages)
	}
	_, err = fmt.Fprintf(std.Out, "%s\nhttps://m.me/%s?ref=%s\n", ref, page.ID, url.QueryEscape(ref))
	return err
}

type checkRefCommand struct {
	Ref string `arg:"" name:"ref" help:"The reference, or the whole link that has it."`
	refPage
}

func (checkRefCommand) Help() string {
	return "Exit code 0: the page accepts it, 1: it does not, for the reason that is printed."
}

func (c checkRefCommand) Run(std cli.Stdio) error {
	page, secrets, err := c.find()
	if err != nil {
		return err
	}
	policy := webhook.RefPolicy{Secrets: secrets, MaxAge: page.References.MaxAge, AllowEndless: page.References.Endless}
	ref, err := policy.Check(refIn(c.Ref), time.Now())
	if err != nil {
		var refused *webhook.RefError
		if errors.As(err, &refused) {
			return fmt.Errorf("page %s: %w", page.Name, err)
		}
		return err
	}
	t := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "page\t%s (%s)\n", page.Name, page.ID)
	fmt.Fprintf(t, "%s\t%q\n", ref.Form.Field(), ref.ID)
	if ref.Made.IsZero() {
		fmt.Fprintf(t, "made\tat a time that it does not tell\nexpires\tnever\n")
	} else {
		maxAge := policy.MaxAge
		if maxAge == 0 {
			maxAge = webhook.DefaultMaxAge
		}
		fmt.Fprintf(t, "made\t%s\nexpires\t%s\n", ref.Made.Format(time.RFC3339), ref.Made.Add(maxAge).Format(time.RFC3339))
	}
	fmt.Fprintf(t, "fingerprint\t%s (ref in the log lines linked and ref_refused)\n", ref.Fingerprint)
	return t.Flush()
}

// refIn returns the reference of a link, and any other text as it is.
func refIn(text string) string {
	text = strings.TrimSpace(text)
	if link, err := url.Parse(text); err == nil && link.Query().Has("ref") {
		return link.Query().Get("ref")
	}
	return text
}
