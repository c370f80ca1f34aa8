-- A row a user and day: what they did, what they paid, and their rank by that in their country.
-- `currency` and `spend` are null where a day has several currencies, whose sum would mean nothing. Where the country is
-- not known, since a user paid and was not seen, there is no rank.
-- feeds: user_events, transaction_events
WITH seen AS (
    SELECT
        event_date,
        user_id,
        max(named_struct('event_time', event_time, 'country', country)).country AS country,
        count(DISTINCT session_id) AS sessions,
        count(*) AS events,
        count_if(event_type = 'login') AS logins,
        count_if(event_type = 'logout') AS logouts,
        count_if(event_type = 'page_view') AS page_views,
        count_if(event_type = 'search') AS searches,
        count_if(event_type = 'add_to_cart') AS adds_to_cart,
        count_if(event_type = 'purchase') AS purchases,
        min(event_time) AS first_seen,
        max(event_time) AS last_seen
    FROM user_events
    GROUP BY event_date, user_id
),
paid AS (
    SELECT
        event_date,
        user_id,
        count_if(status = 'completed') AS transactions,
        min(currency) FILTER (WHERE status = 'completed') AS currency,
        count(DISTINCT currency) FILTER (WHERE status = 'completed') AS currencies,
        sum(amount) FILTER (WHERE status = 'completed') AS spend,
        min(event_time) AS first_seen,
        max(event_time) AS last_seen
    FROM transaction_events
    GROUP BY event_date, user_id
),
joined AS (
    SELECT
        coalesce(seen.event_date, paid.event_date) AS event_date,
        coalesce(seen.user_id, paid.user_id) AS user_id,
        seen.country,
        coalesce(sessions, 0) AS sessions,
        coalesce(events, 0) AS events,
        coalesce(logins, 0) AS logins,
        coalesce(logouts, 0) AS logouts,
        coalesce(page_views, 0) AS page_views,
        coalesce(searches, 0) AS searches,
        coalesce(adds_to_cart, 0) AS adds_to_cart,
        coalesce(purchases, 0) AS purchases,
        coalesce(transactions, 0) AS transactions,
        if(currencies = 1, currency, NULL) AS currency,
        if(currencies = 1, spend, NULL) AS spend,
        least(seen.first_seen, paid.first_seen) AS first_seen,
        greatest(seen.last_seen, paid.last_seen) AS last_seen
    FROM seen
    FULL OUTER JOIN paid ON seen.event_date = paid.event_date AND seen.user_id = paid.user_id
)
SELECT
    *,
    if(
        spend IS NULL OR country IS NULL,
        NULL,
        rank() OVER (PARTITION BY event_date, country, currency ORDER BY spend DESC NULLS LAST)
    ) AS rank_in_country
FROM joined
DISTRIBUTE BY event_date
SORT BY event_date, user_id
