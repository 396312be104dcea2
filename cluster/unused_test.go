package cluster_test

import (
	"slices"
	"testing"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

// An account has its first folders whatever is done with it first.
func TestUnusedAccount(t *testing.T) {
	c := clustertest.Start(t, "south", "north", "overseas")
	door := c.Nodes[2].Client()
	for name, first := range map[string]func(client.Account) error{
		"select":        func(a client.Account) error { _, err := door.Select(ctx(t), a, "inbox"); return err },
		"status":        func(a client.Account) error { _, err := door.Status(ctx(t), a, "Drafts"); return err },
		"mailboxes":     func(a client.Account) error { _, err := door.Mailboxes(ctx(t), a); return err },
		"subscriptions": func(a client.Account) error { _, err := door.Subscriptions(ctx(t), a); return err },
		"subscribe":     func(a client.Account) error { return door.Subscribe(ctx(t), a, "INBOX", true) },
		"rename":        func(a client.Account) error { return door.RenameMailbox(ctx(t), a, "INBOX", "Old") },
		"delete":        func(a client.Account) error { return door.DeleteMailbox(ctx(t), a, "Junk") },
		"create":        func(a client.Account) error { _, err := door.CreateMailbox(ctx(t), a, "New", ""); return err },
		"append": func(a client.Account) error {
			d := door.NewDraft()
			defer d.Close()
			if _, err := d.Write(message(1, 100)); err != nil {
				return err
			}
			_, _, err := door.Append(ctx(t), a, "Sent", d, client.Flags{}, client.Date{Unix: 1})
			return err
		},
	} {
		a := c.Account(t, name)
		if err := first(a); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		list, err := c.Nodes[0].Client().Subscriptions(ctx(t), a)
		if err != nil || !slices.Contains(list, "INBOX") {
			t.Errorf("%s: subscribed to %q, %v", name, list, err)
		}
	}
}

// A recipient who is named twice, by an alias for instance, gets the message once.
func TestRecipientTwice(t *testing.T) {
	c := clustertest.Start(t, "south", "north")
	a, b := c.Account(t, "u1"), c.Account(t, "u2")
	deliver(t, c.Nodes[0].Client(), message(1, 100), a, b, a)
	for _, r := range []client.Account{a, b} {
		if got := bodies(t, c.Nodes[0].Client(), r, "INBOX"); len(got) != 1 {
			t.Errorf("%s has it %d times", r.Address, len(got))
		}
	}
}
