-- A row a product, day and currency: what completed transactions sold of it. The average is over the seven days up to
-- this one, and a day without a sale counts as 0.
-- feeds: transaction_events
-- looks back: 6 days
WITH sold AS (
    SELECT event_date, currency, user_id, item.product_id, item.quantity, item.quantity * item.unit_price AS revenue
    FROM transaction_events
    LATERAL VIEW explode(items) AS item
    WHERE status = 'completed'
),
daily AS (
    SELECT
        event_date,
        product_id,
        currency,
        sum(quantity) AS units,
        cast(sum(revenue) AS DECIMAL(38, 2)) AS revenue,
        count(DISTINCT user_id) AS buyers
    FROM sold
    GROUP BY event_date, product_id, currency
)
SELECT
    *,
    round(try_divide(cast(revenue AS DOUBLE), sum(revenue) OVER (PARTITION BY event_date, currency)), 6) AS share_of_day,
    cast(
        sum(revenue) OVER (
            PARTITION BY product_id, currency
            ORDER BY unix_date(event_date)
            RANGE BETWEEN 6 PRECEDING AND CURRENT ROW
        ) / 7 AS DECIMAL(38, 2)
    ) AS revenue_7_days_average
FROM daily
DISTRIBUTE BY event_date
SORT BY event_date, product_id, currency
