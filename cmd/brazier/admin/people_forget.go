package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/webhook"
	"github.com/brazier-relay/brazier/worker/capture"
)

type forgetPerson struct {
	Yes    bool `name:"yes" short:"y" env:"-" help:"Do it without asking."`
	DryRun bool `name:"dry-run" env:"-" help:"Show what would be removed, and remove nothing."`
	personFlags
}

func (forgetPerson) Help() string {
	return "Removes who the PSID is and, by an update, the attributes in Braze; discards the person's webhook events and messages that wait, and their " +
		"dead letters; and says what remains where. It does so if that is confirmed on a terminal or by --yes, and may be run again. " +
		"A PSID of which nothing is known has its messages discarded all the same. The person's next valid reference links them anew."
}

func (c forgetPerson) Run(ctx context.Context, std cli.Stdio) error {
	if c.DryRun && c.Yes {
		return cli.Usagef("both --dry-run and --yes are set: keep one")
	}
	q, people, done, err := c.find(ctx, std)
	if err != nil {
		return err
	}
	defer done()
	if len(people) == 0 {
		return fmt.Errorf("nothing is known of %q: no valid reference was made for such a user. Name the PSID to discard its messages", c.Who)
	}
	kept, err := c.survey(ctx, q, people, std.Out)
	switch {
	case err != nil:
		return err
	case !kept:
		fmt.Fprintln(std.Out, "There is nothing to forget.")
		return nil
	case c.DryRun:
		fmt.Fprintln(std.Out, "Nothing was removed, as --dry-run asks.")
		return nil
	case c.Yes:
	case std.In == nil:
		return cli.Usagef("nothing was removed: add --yes, or run it on a terminal")
	case !confirm(ctx, std, "Forget all of that? [y/N] "):
		fmt.Fprintln(std.Out, "Nothing was removed.")
		return nil
	}
	var all forgotten
	for i := range people {
		did, err := people[i].forget(ctx, q)
		all.add(did)
		if err != nil {
			return fmt.Errorf("page %s: %w: run it again", people[i].page.Name, err)
		}
	}
	all.print(std.Out)
	return nil
}

// survey shows what there is to be removed, and reports whether there is anything.
func (c forgetPerson) survey(ctx context.Context, q *queue.Queue, people []found, w io.Writer) (kept bool, err error) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PAGE\tPSID\tUSER\tLINKED\tWAITING\tDEAD LETTERS")
	for i := range people {
		f := &people[i]
		if f.known && f.page.Braze == nil {
			return false, cli.Usagef("page %s has no braze in %s, so its attributes cannot be removed: name the page file with --pages", f.page.Name, c.Pages)
		}
		waiting, dead := 0, []uint64(nil)
		if f.isTheirs() {
			if waiting, err = q.CountJobs(ctx, f.page.ID, f.isMeant()); err != nil {
				return false, err
			}
			if dead, err = f.deadLetters(ctx, q); err != nil {
				return false, err
			}
		}
		kept = kept || f.known || waiting > 0 || len(dead) > 0
		user, linked := "-", "-"
		if f.known {
			user, linked = f.person.User.BrazeID+f.person.User.ExternalID, map[bool]string{true: "yes", false: "no"}[f.person.Linked]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\n", printable(f.page.Name), printable(f.person.PSID), printable(user), linked, waiting, len(dead))
	}
	_ = t.Flush() // the line after it fails too
	fmt.Fprintln(w)
	return kept, nil
}

// isMeant selects the messages to the person, and what webhooks told of them.
func (f *found) isMeant() func(*queue.Job) bool {
	digest := sendapi.PSID(f.person.PSID).Digest()
	return func(j *queue.Job) bool {
		if j.Lane != queue.Events {
			return j.RecipientDigest == digest
		}
		var e webhook.Event
		return json.Unmarshal(j.Body, &e) == nil && e.PSID == f.person.PSID
	}
}

// deadLetters returns the numbers of the person's dead letters. Bodies are read of those of webhook events alone.
func (f *found) deadLetters(ctx context.Context, q *queue.Queue) (seqs []uint64, err error) {
	isMeant := f.isMeant()
	filter := queue.DeadLetterFilter{Page: f.page.ID, Which: func(l *queue.DeadLetter) bool { return l.Lane == queue.Events || isMeant(&l.Job) }}
	for l, err := range q.DeadLetters(ctx, filter, false) {
		if err == nil && l.Lane == queue.Events {
			l, err = q.DeadLetter(ctx, l.Seq)
		}
		if err != nil {
			return nil, err
		}
		if isMeant(&l.Job) {
			seqs = append(seqs, l.Seq)
		}
	}
	return seqs, nil
}

// forgotten is what was removed.
type forgotten struct {
	mappings, dead int
	jobs           queue.Discarded
}

func (f *forgotten) add(did forgotten) {
	f.mappings += did.mappings
	f.dead += did.dead
	f.jobs.Jobs += did.jobs.Jobs
	f.jobs.Begun += did.jobs.Begun
}

// forget removes what there is of a person. Events that wait go first: a reference in one would link the person again.
func (f *found) forget(ctx context.Context, q *queue.Queue) (did forgotten, err error) {
	if f.isTheirs() {
		if did.jobs, err = q.DiscardJobs(ctx, f.page.ID, f.isMeant()); err != nil {
			return did, err
		}
	}
	if f.known {
		page := &capture.Page{ID: f.page.ID, Name: f.page.Name, Workspace: f.page.Braze.Name, Attributes: f.page.Attributes}
		if err = capture.Forget(ctx, q, page, f.person); err != nil {
			return did, err
		}
		did.mappings++
	}
	if !f.isTheirs() {
		return did, nil
	}
	if err = q.Sent().Erase(ctx, f.page.ID, f.person.PSID); err != nil && !errors.Is(err, queue.ErrNoRoadBack) {
		return did, err
	}
	dead, err := f.deadLetters(ctx, q)
	if err != nil {
		return did, err
	}
	for _, seq := range dead {
		if err := q.EraseDeadLetter(ctx, seq); err != nil {
			return did, err
		}
		did.dead++
	}
	return did, nil
}

// print says what was removed and what remains where.
func (f *forgotten) print(w io.Writer) {
	fmt.Fprintf(w, "Removed: %d mapping(s) of PSID and user, %d message(s) and webhook event(s) that waited, %d dead letter(s).\n", f.mappings, f.jobs.Jobs, f.dead)
	if f.mappings > 0 {
		fmt.Fprintln(w, "An update that removes the attributes in Braze was queued; a worker sends it.")
	}
	fmt.Fprintln(w, "\nWhat remains:")
	if f.jobs.Begun > 0 {
		fmt.Fprintf(w, "- %d message(s) or event(s) that a worker was handling: they end in the next minutes, and may leave a dead letter or a new mapping. Run this again then.\n", f.jobs.Begun)
	}
	fmt.Fprint(w, `- NATS: overwritten are the messages and dead letters named above. The bytes of the mapping, and of what was sent before, stay in its
  files until the server compacts them; and in your backups. A digest of the recipient is kept with the ids of messages, for as long as
  an idempotency key counts.
- Messages that name their recipient otherwise than by the PSID (user_ref, comment_id, phone_number): discard them by id.
- Logs: lines with the last four characters of the PSID, and the braze_id, for as long as you keep them.
- Braze: the user's profile and what campaigns know of it. Delete the user there.
- Facebook: the conversation in the page's inbox. Delete it there.
`)
}
