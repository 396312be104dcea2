package mailbox

import (
	"fmt"

	"hongyan/engine/index"
)

// answerGuest answers a query on behalf of another account, as far as RFC 4314 section 4 lets it.
func answerGuest(v *index.View, q *Query, emit func(*Frame) error) error {
	box, has, err := guestRights(v, q)
	if err != nil {
		return err
	}
	own := []index.Grant{{Mailbox: box, User: q.User, Rights: has}}
	switch q.Kind {
	case QueryMailboxes:
		return answerShared(v, q, emit)
	case QueryNotes:
		return answerGuestNotes(v, q, emit)
	case QueryAnnotations:
		err = demandNotes(has)
	case QueryStatus, QuerySelect, QueryMessages, QueryFlagged, QueryChanges:
		err = demand(has, index.RightRead)
	case QueryGrants:
		err = demand(has, index.RightAdminister)
	case QueryRights:
		if err = demandAny(has, index.RightLookup|index.RightRead|index.RightInsert|index.RightCreate|index.RightDeleteBox|index.RightAdminister); err == nil {
			return emit(&Frame{Grants: own})
		}
	default:
		err = fmt.Errorf("%w: query kind %d is the owner's alone", errInvalid, q.Kind)
	}
	if err != nil {
		return err
	}
	plain := *q
	plain.User = 0
	return answer(v, &plain, func(f *Frame) error {
		if q.Kind != QueryGrants {
			f.Grants = own
		}
		if q.Kind == QueryAnnotations {
			f.Annotations = notesOf(f.Annotations, q.User)
		}
		return emit(f)
	})
}

// guestRights are those on the mailbox that a query is about, none if it is about all.
func guestRights(v *index.View, q *Query) (mailbox uint32, has index.Rights, err error) {
	mailbox = q.Mailbox
	switch q.Kind {
	case QueryMailboxes, QueryNotes:
		return 0, 0, nil
	case QueryStatus, QuerySelect, QueryAnnotations, QueryGrants, QueryRights:
		box, err := v.MailboxByName(q.Account, q.Name)
		if err != nil {
			return 0, 0, err
		}
		mailbox = box.ID
	}
	has, err = v.Rights(q.Account, mailbox, q.User)
	return mailbox, has, err
}

// answerShared lists the folders that a guest may know of, each with his rights.
func answerShared(v *index.View, q *Query, emit func(*Frame) error) error {
	given, err := v.GrantsTo(q.Account, q.User)
	if err != nil || len(given) == 0 {
		return err
	}
	all, err := v.Mailboxes(q.Account)
	if err != nil {
		return err
	}
	var boxes []index.Mailbox
	for i := range all {
		if given[all[i].ID].Has(index.RightLookup) {
			boxes = append(boxes, all[i])
		}
	}
	return inParts(boxes, mailboxSize, func(part []index.Mailbox) error {
		f := &Frame{Mailboxes: part}
		for i := range part {
			f.Grants = append(f.Grants, index.Grant{Mailbox: part[i].ID, User: q.User, Rights: given[part[i].ID]})
		}
		return emit(f)
	})
}

// answerGuestNotes names the annotations that a guest may read.
func answerGuestNotes(v *index.View, q *Query, emit func(*Frame) error) error {
	given, err := v.GrantsTo(q.Account, q.User)
	if err != nil {
		return err
	}
	plain := *q
	plain.User = 0
	return answer(v, &plain, func(f *Frame) error {
		var list []index.Annotation
		for _, n := range notesOf(f.Annotations, q.User) {
			if demandNotes(given[n.Mailbox]) == nil {
				list = append(list, n)
			}
		}
		f.Annotations = list
		return emit(f)
	})
}

// notesOf leaves of annotations those that a user shares or has for himself.
func notesOf(all []index.Annotation, user uint64) (list []index.Annotation) {
	for _, n := range all {
		if n.User == 0 || n.User == user {
			list = append(list, n)
		}
	}
	return list
}

// answerGrants lists what is given of a folder.
func answerGrants(v *index.View, q *Query, emit func(*Frame) error) error {
	box, err := v.MailboxByName(q.Account, q.Name)
	if err != nil {
		return err
	}
	f := &Frame{}
	err = v.Grants(q.Account, box.ID, func(g index.Grant) error {
		f.Grants = append(f.Grants, g)
		return nil
	})
	if err != nil {
		return err
	}
	return emit(f)
}

// answerSharers lists who may share something with the account.
func answerSharers(v *index.View, q *Query, emit func(*Frame) error) error {
	list, err := v.Sharers(q.Account)
	if err != nil {
		return err
	}
	return emit(&Frame{Sharers: list})
}
