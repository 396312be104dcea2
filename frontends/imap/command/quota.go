package command

import (
	"hongyan/frontends/imap/wire"
)

// maxResources bounds those of one SETQUOTA.
const maxResources = 16

// QuotaRoot parses GETQUOTA (RFC 9208 section 4.1.1).
func QuotaRoot(d *wire.Decoder) (string, error) {
	root, err := quotaRoot(d)
	if err != nil {
		return "", err
	}
	return root, d.End()
}

func quotaRoot(d *wire.Decoder) (string, error) {
	if err := d.SP(); err != nil {
		return "", err
	}
	root, err := d.AString()
	return string(root), err
}

// SetQuota parses SETQUOTA (RFC 9208 section 4.1.3). Its limits are read for their form only: nobody may set them by IMAP.
func SetQuota(d *wire.Decoder) error {
	if _, err := quotaRoot(d); err != nil {
		return err
	}
	if err := d.SP(); err != nil {
		return err
	}
	n := 0
	err := d.List(func() error {
		if n++; n > maxResources {
			return wire.Limit("Too many resources")
		}
		if _, err := d.Atom(); err != nil {
			return err
		}
		if err := d.SP(); err != nil {
			return err
		}
		_, err := d.Number()
		return err
	})
	if err != nil {
		return err
	}
	return d.End()
}
