{{ config(materialized='table') }}
select customer, count(*) as orders, sum(amount) as amount, max(ordered_on) as last_on from {{ ref('orders') }} group by customer
