{{ config(materialized='view') }}
select id, customer, amount, ordered_on from {{ ref('orders') }} where paid
