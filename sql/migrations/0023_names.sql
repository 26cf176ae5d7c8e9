-- Names that kind cannot make are refused: the host name of its node would be too long for the
-- kernel. Rows that exist stay. Additive and repeatable.

-- As in step 3, with the limit of kind.
CREATE OR REPLACE FUNCTION clusters_check() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    was clusters;
BEGIN
    IF TG_OP = 'UPDATE' THEN was := OLD; END IF;
    IF NEW.name IS DISTINCT FROM was.name AND NEW.name !~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$' THEN
        RAISE EXCEPTION 'name "%" is not valid: use 1 to 63 lower-case letters, digits or ''-'', with a letter or digit first and last', NEW.name
            USING ERRCODE = 'check_violation', COLUMN = 'name';
    END IF;
    IF NEW.provider IS DISTINCT FROM was.provider AND NEW.provider NOT IN ('k3d', 'kind') THEN
        RAISE EXCEPTION 'provider "%" is not known: use k3d or kind', NEW.provider
            USING ERRCODE = 'check_violation', COLUMN = 'provider';
    END IF;
    IF was.name IS NULL AND NEW.provider = 'k3d' AND length(NEW.name) > 32 THEN
        RAISE EXCEPTION 'name "%" is too long: k3d allows at most 32 characters', NEW.name
            USING ERRCODE = 'check_violation', COLUMN = 'name';
    END IF;
    IF was.name IS NULL AND NEW.provider = 'kind' AND length(NEW.name) > 50 THEN
        RAISE EXCEPTION 'name "%" is too long: kind allows at most 50 characters', NEW.name
            USING ERRCODE = 'check_violation', COLUMN = 'name';
    END IF;
    IF NEW.subnet IS DISTINCT FROM was.subnet AND NEW.subnet IS NOT NULL
       AND (family(NEW.subnet::cidr) <> 4 OR masklen(NEW.subnet::cidr) NOT BETWEEN 8 AND 28) THEN
        RAISE EXCEPTION 'subnet "%" is not valid: use an IPv4 network such as 10.101.0.0/16, with a prefix length of 8 to 28 and no bits set behind it', NEW.subnet
            USING ERRCODE = 'check_violation', COLUMN = 'subnet';
    END IF;
    PERFORM kindler_check_port('node_port', was.node_port, NEW.node_port),
            kindler_check_port('pf_port', was.pf_port, NEW.pf_port),
            kindler_check_port('http_port', was.http_port, NEW.http_port),
            kindler_check_port('https_port', was.https_port, NEW.https_port);
    IF NEW.desired_state IS DISTINCT FROM was.desired_state
       AND NEW.desired_state NOT IN ('present', 'stopped', 'absent') THEN
        RAISE EXCEPTION 'desired_state "%" is not known: use present, stopped, absent', NEW.desired_state
            USING ERRCODE = 'check_violation', COLUMN = 'desired_state';
    END IF;
    RETURN NEW;
END $$;
